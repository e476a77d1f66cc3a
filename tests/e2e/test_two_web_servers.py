"""Two web servers with the same name, which leads to one of them: both get a certificate, whichever is asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.world import ROOT, World

NAMED, OTHER, DOMAIN = "pair1", "pair2", "pair.example.test"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """After the first deploy. Pebble finds the name's address as that of the first host only."""
    hosts = {
        NAMED: {"address": "10.77.0.185", "names": [DOMAIN]},
        OTHER: {"address": "10.77.0.186", "debian": 12},
    }
    made = World(tmp_path_factory.mktemp("pair"), "pair", hosts, web=[NAMED, OTHER], db=[])
    made.copy(ROOT / "tests" / "apps" / "plain", "plain")
    made.apps["plain"] = {"domains": [DOMAIN], "source": {"path": "../../plain"}}
    made.write()
    made.up()
    done = made.deploy()
    assert done.code == 0, str(done)
    yield made
    made.remove()


@pytest.mark.parametrize("host", [NAMED, OTHER])
def test_a_visitor_of_either_sees_a_certificate_that_holds(world: World, host: str) -> None:
    status, body = world.visit(host, f"https://{DOMAIN}/knots/10")
    assert (status, body.strip()) == (200, '{"kmh":18.52}')


def test_again_there_is_nothing_to_do(world: World) -> None:
    done = world.deploy()
    assert "nothing to do" in done.err, str(done)


def test_what_none_of_them_has_is_not_asked_for_in_a_circle(world: World) -> None:
    assert world.visit(NAMED, f"http://{DOMAIN}/.well-known/acme-challenge/none")[0] == 404
    logged = world.run_on(OTHER, "sh", "-c", "grep -c acme-challenge/none /var/log/nginx/access.log || true")
    assert logged.strip() == "1", "asked once"


def test_a_server_that_is_off_keeps_the_other_from_nothing(world: World) -> None:
    folder = "/var/www/zarpar/acme/.well-known/acme-challenge"
    world.run_on(NAMED, "mkdir", "-p", folder)
    world.run_on(NAMED, "tee", f"{folder}/here", stdin="proof")
    world.run_on(OTHER, "systemctl", "stop", "nginx")
    try:
        assert world.visit(NAMED, f"http://{DOMAIN}/.well-known/acme-challenge/here") == (200, "proof")
    finally:
        world.run_on(OTHER, "systemctl", "start", "nginx")

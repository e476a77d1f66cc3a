"""A second app beside the first: it works, and neither can read what is the other's."""

from __future__ import annotations

import pytest
from support.report import note
from support.site import APP, Site

OTHER, DOMAIN = "board", "board.e2e.example.test"
USERS = {APP: OTHER, OTHER: APP}
CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"


@pytest.fixture(scope="module")
def both(site: Site) -> Site:
    site.world.add_app(OTHER, [DOMAIN], env={"SECRET_KEY": "the-board-s-own-key", "TRUSTED_PROXIES": 1})
    site.world.write()
    before = _activations(site)
    done = site.world.deploy()
    assert done.code == 0, str(done)
    assert _activations(site) == before, "the first app was released again"
    note(f"a second app: {done.seconds:.1f} s")
    for name in USERS:
        site.on_host("sh", "-c", f"echo {name} > /srv/{name}/shared/uploads/{name}.txt")
        site.on_host("chown", f"{name}:{name}", f"/srv/{name}/shared/uploads/{name}.txt")
    return site


def test_both_serve(both: Site) -> None:
    assert both.serving().startswith(both.app.head())
    assert both.world.serving(both.host, DOMAIN) == both.world.live(both.host, OTHER)
    for name, url in ((APP, both.url), (OTHER, f"https://{DOMAIN}")):
        assert both.world.visit(both.host, f"{url}/uploads/{name}.txt") == (200, f"{name}\n")
    status, _ = both.world.visit(both.host, f"{both.url}/uploads/{OTHER}.txt")
    assert status == 404


@pytest.mark.parametrize("user", USERS)
def test_a_user_reads_its_own(both: Site, user: str) -> None:
    """The counter-check: what the next tests refuse can be done by its owner."""
    facts = both.world.state(both.host, user)["live"]
    for path in (f"/srv/{user}/releases/{facts['release']}/src/wsgi.py", f"/srv/{user}/shared/uploads/{user}.txt"):
        assert _may(both, user, "head", "-c1", path), path
    assert _may(both, user, "python3", "-c", CONNECT, f"/run/zarpar/{user}-{facts['slot']}/gunicorn.sock")
    assert _may(both, user, "psql", "-X", "-c", "SELECT 1", "-d", user)


@pytest.mark.parametrize("user", USERS)
def test_a_user_cannot_read_the_other_s_files(both: Site, user: str) -> None:
    other = USERS[user]
    facts = both.world.state(both.host, other)["live"]
    for path in (
        f"/srv/{other}",
        f"/srv/{other}/releases/{facts['release']}/src/wsgi.py",
        f"/srv/{other}/shared/uploads/{other}.txt",
        f"/srv/{other}/cache",
        f"/etc/zarpar/apps/{other}/gunicorn.conf.py",
        f"/etc/zarpar/apps/{other}/slots/{facts['slot']}",
        f"/etc/zarpar/apps/{other}/env/{facts['release']}",
        f"/var/lib/zarpar/apps/{other}/state.json",
    ):
        assert both.world.succeeds_on(both.host, "test", "-e", path), f"{path} is gone: mend this test"
        assert not _may(both, user, "head", "-c1", path), path
        assert not _may(both, user, "ls", path), path
    tops = [f"/srv/{other}", f"/etc/zarpar/apps/{other}"]
    seen = both.on_host("runuser", "-u", user, "--", "find", *tops, check=False).split()
    assert set(seen) <= set(tops), "something below a closed folder can be seen"


@pytest.mark.parametrize("user", USERS)
def test_a_user_cannot_write_its_own_code(both: Site, user: str) -> None:
    facts = both.world.state(both.host, user)["live"]
    tree = f"/srv/{user}/releases/{facts['release']}/src"
    for path in (f"{tree}/wsgi.py", f"{tree}/new.py", f"/srv/{user}/live", f"/srv/{user}/new"):
        assert not _may(both, user, "python3", "-c", "import sys; open(sys.argv[1], 'a')", path), path


@pytest.mark.parametrize("user", USERS)
def test_a_user_cannot_reach_the_other_s_socket(both: Site, user: str) -> None:
    other = USERS[user]
    slot = both.world.state(both.host, other)["live"]["slot"]
    assert not _may(both, user, "python3", "-c", CONNECT, f"/run/zarpar/{other}-{slot}/gunicorn.sock")


@pytest.mark.parametrize("user", USERS)
def test_a_user_cannot_use_the_other_s_database(both: Site, user: str) -> None:
    other = USERS[user]
    assert not _may(both, user, "psql", "-X", "-c", "SELECT 1", "-d", other)
    assert not _may(both, user, "psql", "-X", "-c", "SELECT 1", "-U", other, "-d", other)
    assert not _may(both, user, "psql", "-X", "-c", "SELECT 1", "-U", "postgres", "-d", "postgres")


@pytest.mark.parametrize("user", USERS)
def test_a_user_cannot_see_the_other_s_environment(both: Site, user: str) -> None:
    pid = both.on_host("systemctl", "show", "-p", "MainPID", "--value", _unit(both, USERS[user])).strip()
    assert not _may(both, user, "cat", f"/proc/{pid}/environ")
    assert "SECRET_KEY" not in both.on_host("runuser", "-u", user, "--", "systemctl", "show", _unit(both, USERS[user]))


def _unit(both: Site, app: str) -> str:
    return f"zarpar-{app}@{both.world.state(both.host, app)['live']['slot']}.service"


def _may(both: Site, user: str, *argv: str) -> bool:
    return both.world.succeeds_on(both.host, "runuser", "-u", user, "--", *argv)


def _activations(site: Site) -> int:
    return [event["event"] for event in site.world.events(site.host, APP)].count("activated")

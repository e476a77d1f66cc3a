"""granian in gunicorn's place, by one line of the inventory: the same unit, gate, switch, logs and way back."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from support.site import APP, Site
from support.world import until

SEEN = """
@blueprint.get("/seen-as")
def seen_as() -> Response:
    from flask import request
    return jsonify(scheme=request.scheme, address=request.remote_addr, host=request.host)


@blueprint.get("/health")
"""
LOGS = f"/var/log/zarpar/{APP}"


@pytest.fixture(scope="module")
def granian(site: Site) -> Iterator[Site]:
    """The site after a release to granian; afterwards it is as it was."""
    before = site.world.apps[APP]
    site.world.apps[APP] = {**before, "server": "granian"}
    site.world.write()
    site.app.edit("notes/health.py", '\n@blueprint.get("/health")\n', SEEN)
    commit = site.app.commit("Served by granian")
    done = site.world.deploy()
    assert done.code == 0, str(done)
    assert site.serving().startswith(commit)
    assert "granian==" in done.text, "that it was added is told"
    yield site
    site.world.apps[APP] = before
    site.world.write()
    site.mend()
    assert "gunicorn" in command(site)


def unit(site: Site) -> str:
    return f"zarpar-{APP}@{site.world.state(site.host, APP)['live']['slot']}.service"


def main_process(site: Site) -> str:
    return site.on_host("systemctl", "show", "--property=MainPID", "--value", unit(site)).strip()


def command(site: Site) -> str:
    return site.on_host("cat", f"/proc/{main_process(site)}/cmdline").replace("\0", " ")


def children(site: Site) -> list[str]:
    return site.on_host("pgrep", "--parent", main_process(site)).split()


def test_it_is_granian_that_serves(granian: Site) -> None:
    assert "serve_granian.py" in command(granian)
    assert len(children(granian)) == int(granian.on_host("nproc"))


def test_the_app_knows_its_visitors(granian: Site) -> None:
    status, body = granian.world.visit(granian.host, f"{granian.url}/seen-as")
    assert status == 200
    seen = json.loads(body)
    assert (seen["scheme"], seen["host"]) == ("https", granian.domain)
    assert seen["address"].startswith("10.77.0."), "the visitor's, not nginx's"
    logged = granian.on_host("journalctl", "--unit", unit(granian), "--output=cat", "--no-pager")
    assert f"{seen['address']} - - [" in logged
    assert '"GET /seen-as HTTP/1.1" 200' in logged


def test_a_worker_that_dies_is_replaced(granian: Site) -> None:
    main, old = main_process(granian), children(granian)
    granian.on_host("kill", "-9", old[0])
    until(lambda: len(set(children(granian)) - {old[0]}) == len(old), 30, "there are as many workers again")
    assert main_process(granian) == main
    assert granian.serving() == granian.live()


def test_a_release_that_cannot_be_imported_gets_no_visitor(granian: Site) -> None:
    before, head = granian.serving(), granian.app.head()
    granian.app.commit("Broken", {"wsgi.py": "raise RuntimeError('the flux is out of balance')\n"})
    done = granian.world.deploy()
    assert done.code == 1, str(done)
    assert "the flux is out of balance" in done.err, str(done)
    assert granian.serving() == before
    granian.app.reset(head)


def test_it_logs_to_files_which_are_rotated(granian: Site) -> None:
    app = granian.world.apps[APP]
    granian.world.apps[APP] = {**app, "logs": "file"}
    granian.world.write()
    granian.again()
    main = main_process(granian)
    granian.on_host("logrotate", "--force", f"/etc/logrotate.d/zarpar-{APP}")
    granian.world.visit(granian.host, f"{granian.url}/seen-as?after")
    assert "/seen-as" in granian.on_host("cat", f"{LOGS}/access.log")
    assert "Listening at" in granian.on_host("cat", f"{LOGS}/error.log.1")
    assert main_process(granian) == main, "the signal that makes gunicorn open its files anew does nothing here"
    granian.world.apps[APP] = app
    granian.world.write()
    granian.again()


def test_back_to_a_release_of_gunicorn_and_forth(granian: Site) -> None:
    """Which server runs is the release's own: going back does not ask what the inventory says now."""
    app, head = granian.world.apps[APP], granian.app.head()
    granian.world.apps[APP] = {**app, "server": "gunicorn"}
    granian.world.write()
    granian.app.commit("By gunicorn again")
    granian.again()
    assert "gunicorn" in command(granian)
    done = granian.world.zarpar("rollback")
    assert done.code == 0, str(done)
    assert "serve_granian.py" in command(granian)
    granian.world.apps[APP] = app
    granian.world.write()
    granian.app.reset(head)
    granian.again()

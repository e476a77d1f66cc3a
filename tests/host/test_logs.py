"""Logs in files, where an app asks for them: who reads them, and that rotation loses no line."""

from __future__ import annotations

import secrets

import pytest
from environment import App
from on_host import Live, Machine
from visitor import Visitor

pytestmark = pytest.mark.on("web")


@pytest.fixture
def folder(app: App) -> str:
    if app["logs"] != "file":
        pytest.skip(f"{app['name']} logs to the journal")
    return f"/var/log/zarpar/{app['name']}"


def test_log_files_are_for_the_app_only(machine: Machine, app: App, folder: str) -> None:
    name = app["name"]
    modes = set(machine.check("stat -c '%%U:%%G %%a' %s/*.log", folder).splitlines())
    assert modes == {f"{name}:{name} 640"}, modes
    assert "Permission denied" in machine.denied("nobody", "ls %s", folder)


def test_rotation_is_configured(machine: Machine, app: App, folder: str) -> None:
    done = machine.host.run("logrotate --debug %s", f"/etc/logrotate.d/zarpar-{app['name']}")
    assert done.rc == 0, done.stderr
    assert "error" not in done.stderr.lower().replace("error.log", ""), done.stderr
    machine.check("systemctl is-enabled --quiet logrotate.timer")


@pytest.mark.lab
def test_rotation(machine: Machine, app: App, live: Live, folder: str, site: str, visitor: Visitor) -> None:
    before, after = secrets.token_hex(8), secrets.token_hex(8)
    path = app["health"]["path"]
    visitor.ask(f"{site}{path}?{before}")
    machine.check("logrotate --force %s", f"/etc/logrotate.d/zarpar-{app['name']}")
    find = f"for i in $(seq 30); do grep -l %s {folder}/access.log* && exit 0; sleep 0.1; done; exit 1"
    assert machine.check(find, before) == f"{folder}/access.log.1"
    for _ in range(20):  # each worker opens its file by itself
        visitor.ask(f"{site}{path}?{after}")
    assert machine.check(find, after) == f"{folder}/access.log", "a worker still writes into the old file"
    assert machine.live(app["name"]).pid == live.pid, "the app was restarted"
    machine.check("test $(stat -c %%a %s/access.log) = 640", folder)

"""What the host knows of its releases, and whether everything that follows from it agrees."""

from __future__ import annotations

import pytest
from environment import App, Server
from on_host import Live, Machine

pytestmark = pytest.mark.on("web", "worker")


def test_no_switch_is_half_done(live: Live) -> None:
    assert live.confirmed, "a switch waits for its confirmation: run the deploy again"


def test_live_link_and_slot_agree_with_the_state(machine: Machine, app: App, live: Live) -> None:
    home = f"/srv/{app['name']}"
    assert machine.check("readlink -f %s", f"{home}/live/tree") == f"{live.folder}/src"
    assert machine.check("readlink %s", f"{home}/live/socket") == live.socket
    environment = machine.check("readlink -f %s", f"/etc/zarpar/apps/{app['name']}/slots/{live.slot}")
    assert environment == f"/etc/zarpar/apps/{app['name']}/env/{live.release}"


def test_live_release_is_whole(machine: Machine, live: Live) -> None:
    machine.check("test -s %s", f"{live.folder}/release.json")


def test_old_releases_are_removed(machine: Machine, app: App) -> None:
    """`keep` good ones, and the two that the slots name; each with an environment, none without."""
    name = app["name"]
    kept = set(machine.check("ls %s", f"/srv/{name}/releases").split())
    environments = set(machine.check("ls %s", f"/etc/zarpar/apps/{name}/env").split())
    assert environments == kept, "environments and releases differ"
    known = {entry["release"]: entry["status"] for entry in machine.status(name)["releases"]}
    good = [release for release in kept if known.get(release) == "good"]
    assert len(good) <= app["keep"] + 2, f"{len(good)} good releases are kept"


def test_history_tells_the_live_release(server: Server, machine: Machine, app: App, live: Live) -> None:
    status = machine.status(app["name"])
    assert status["live"]["release"] == live.release
    assert live.watched or status["live"]["status"] == "good", status["live"]
    slots = {} if server.services["part"] == "processes" else {live.slot: "active"}
    assert {slot: word for slot, word in status["slots"].items() if slot == live.slot} == slots

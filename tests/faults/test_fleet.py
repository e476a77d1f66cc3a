"""Several web servers and a database server: when one fails, those after it are untouched, and the rerun goes on."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from support import trial
from support.points import Ambush
from support.report import note
from support.site import APP
from support.world import App, Done, Running, World, until

from zarpar import lab

DOMAIN = "notes.fleet.example.test"
SIZE = 5  # web servers; 3 in the short selection
POSITIONS = [pytest.param(number, marks=pytest.mark.short if number == 1 else ()) for number in range(SIZE)]


@dataclass
class Fleet:
    """The servers in the order of the inventory."""

    world: World
    app: App
    web: list[str]

    def live(self) -> dict[str, str]:
        return {host: self.world.live(host, APP) for host in self.web}

    def serving(self) -> dict[str, str]:
        """What visitors of each server get."""
        return {host: self.world.serving(host, DOMAIN, tls=False) for host in self.web}

    def is_whole(self, host: str) -> bool:
        """Whether a server serves what its own record calls live; not while it starts."""
        with contextlib.suppress(AssertionError, OSError):
            return self.world.serving(host, DOMAIN, tls=False) == self.world.live(host, APP)
        return False

    def activations(self, host: str) -> int:
        return [event["event"] for event in self.world.events(host, APP)].count("activated")

    def commit(self, subject: str) -> str:
        """A good release; a server can be made one where it is ill, by a file."""
        return trial.plan(self.app, subject, ill_by_file=True, ill_until=1)

    def break_at(self, host: str) -> None:
        self.world.run_on(host, "touch", trial.ILL)

    def mend_at(self, host: str) -> None:
        self.world.run_on(host, "rm", "-f", trial.ILL)

    def heal(self) -> None:
        """All servers well, and on one good release that no file makes ill."""
        for host in self.world.hosts:
            lab.start(host)
            lab.restore_network(host)
        for host in self.web:
            self.mend_at(host)
            self.world.run_on(host, "rm", "-f", f"/run/zarpar/{APP}.lease")
        self.world.settings = {}
        self.world.write()
        trial.plan(self.app, "Good everywhere")
        self.again()

    def again(self) -> Done:
        done = self.world.deploy("--wait-lock", "120")
        assert done.code == 0, str(done)
        assert {release[:8] for release in self.serving().values()} == {self.app.head()}
        return done


@pytest.fixture(scope="module")
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Not an inventory of the lab once it is up: `deploy` must not start servers that a test has stopped."""
    web = [f"fleet{number + 1}" for number in range(3 if request.config.option.markexpr == "short" else SIZE)]
    hosts = {name: {"address": f"10.77.0.{127 + number}"} for number, name in enumerate(["fleetdb", *web])}
    world = World(tmp_path_factory.mktemp("fleet"), "fleet", hosts, web=web, db=["fleetdb"])
    keys = {**trial.KEYS, "tls": "off", "database_password": secrets.token_hex(8)}
    keys["gunicorn"] = {"workers": 1, "threads": 4}
    app = world.add_app(APP, [DOMAIN], **keys)
    trial.make_trial(app)
    world.write()
    world.up()
    world.is_lab = False
    world.write()
    first = world.deploy()
    note(f"a fleet of {len(web)} and a database server: first deploy {first.seconds:.0f} s")
    assert first.code == 0, str(first)
    yield Fleet(world, app, web)
    world.is_lab = True
    world.write()
    world.remove()


@pytest.fixture
def fleet(servers: Fleet) -> Fleet:
    servers.heal()
    return servers


@pytest.mark.short
def test_a_release_reaches_all(fleet: Fleet) -> None:
    commit = fleet.commit("For all")
    done = fleet.world.deploy()
    note(f"a release to {len(fleet.web)} servers: {done.seconds:.0f} s")
    assert done.code == 0, str(done)
    assert {release[:8] for release in fleet.serving().values()} == {commit}
    migrated = [event for host in fleet.web for event in fleet.world.events(host, APP) if event["event"] == "migrated"]
    assert len([event for event in migrated if event["release"].startswith(commit)]) == 1, "migrated once in all"


@pytest.mark.parametrize("position", POSITIONS)
def test_ill_on_one_server(fleet: Fleet, position: int) -> None:
    """The release is ill on server k: those before have it, those after are untouched; the rerun ends it."""
    bad, before = fleet.web[position], fleet.live()
    commit = fleet.commit(f"Ill on {bad}")
    fleet.break_at(bad)
    done = fleet.world.deploy()
    _stopped_at(fleet, done, bad, before, commit, code=3 if position else 1)
    fleet.mend_at(bad)
    fleet.again()


@pytest.mark.parametrize("position", POSITIONS)
def test_undo(fleet: Fleet, position: int) -> None:
    """With app_release_on_failure: undo, the servers before k go back too."""
    bad, before = fleet.web[position], fleet.live()
    fleet.world.settings = {"app_release_on_failure": "undo"}
    fleet.world.write()
    fleet.commit(f"Ill on {bad}, to be undone")
    fleet.break_at(bad)
    done = fleet.world.deploy("--json")
    assert done.code == 1, str(done)
    assert bad in done.errors()[0], str(done)
    assert fleet.live() == before
    assert fleet.serving() == before
    told = {one["host"]: one["outcome"] for one in json.loads(done.out)["releases"]}
    assert [told[host] for host in fleet.web[:position]] == ["rolled_back"] * position
    fleet.mend_at(bad)
    fleet.again()


@pytest.mark.parametrize("position", range(SIZE))
def test_one_server_is_being_deployed_by_somebody_else(fleet: Fleet, position: int) -> None:
    """Then nothing is switched anywhere."""
    bad, before = fleet.web[position], fleet.live()
    fleet.commit(f"{bad} is busy")
    lease = ["lease=another", "by=somebody@elsewhere", "commit=0123abcd", "seconds=300"]
    fleet.world.run_on(bad, "zarpar-host", "lock", f"app={APP}", *lease)
    done = fleet.world.deploy()
    assert done.code == 1, str(done)
    assert any(bad in line and "somebody@elsewhere" in line for line in done.errors()), str(done)
    assert fleet.live() == before
    fleet.world.run_on(bad, "zarpar-host", "unlock", f"app={APP}", "lease=another")
    fleet.again()


@pytest.mark.parametrize("position", range(SIZE))
def test_one_server_is_off(fleet: Fleet, position: int) -> None:
    """Then nothing is switched anywhere."""
    bad, before = fleet.web[position], fleet.live()
    fleet.commit(f"{bad} is off")
    lab.power_cut(bad)
    done = fleet.world.deploy()
    others = {host: release for host, release in before.items() if host != bad}
    assert done.code == 4, str(done)
    assert [bad in line for line in done.errors()] == [True], str(done)
    assert {host: fleet.world.live(host, APP) for host in others} == others
    lab.start(bad)
    fleet.again()


@pytest.mark.parametrize(
    ("position", "loss"),
    [
        pytest.param(position, loss, marks=pytest.mark.short if (position, loss) == (1, "power") else ())
        for position in range(SIZE)
        for loss in ("power", "network")
    ],
)
def test_one_server_is_lost_on_the_way(fleet: Fleet, position: int, loss: str) -> None:
    """Server k goes away while its new slot starts: those before have the release, those after are untouched."""
    bad, before = fleet.web[position], fleet.live()
    commit = fleet.commit(f"{bad} is lost, {loss}")
    with Ambush(bad, "gate") as ambush:
        running = fleet.world.begin_deploy()
        ambush.wait()
        done = LOSSES[loss](running, bad)
    _stopped_at(fleet, done, bad, before, commit, code=3 if position else 4)
    until(lambda: fleet.is_whole(bad), 120, "it is whole again")
    fleet.again()


def test_the_ailing_server_comes_first(fleet: Fleet) -> None:
    """The last server's app is down: it is tried first, and when that fails no healthy one was risked."""
    bad, before = fleet.web[-1], fleet.live()
    slot = fleet.world.state(bad, APP)["live"]["slot"]
    fleet.commit("The ailing first")
    fleet.break_at(bad)
    fleet.world.run_on(bad, "systemctl", "stop", f"zarpar-{APP}@{slot}.service")
    done = fleet.world.deploy()
    assert done.code in (1, 3), str(done)
    assert bad in done.errors()[0], str(done)
    assert {host: fleet.world.live(host, APP) for host in fleet.web[:-1]} == {
        host: release for host, release in before.items() if host != bad
    }
    fleet.mend_at(bad)
    fleet.again()


@pytest.mark.short
def test_rollback_of_all(fleet: Fleet) -> None:
    before = fleet.live()
    fleet.commit("To be left")
    fleet.again()
    done = fleet.world.zarpar("rollback")
    note(f"rollback of {len(fleet.web)} servers: {done.seconds:.0f} s")
    assert done.code == 0, str(done)
    assert fleet.serving() == before


def _lose_power(running: Running, host: str) -> Done:
    lab.power_cut(host)
    done = running.wait()
    lab.start(host)
    return done


def _lose_network(running: Running, host: str) -> Done:
    lab.cut_network(host)
    try:
        return running.wait()
    finally:
        lab.restore_network(host)


LOSSES: dict[str, Callable[[Running, str], Done]] = {"power": _lose_power, "network": _lose_network}


def _stopped_at(fleet: Fleet, done: Done, bad: str, before: dict[str, str], commit: str, *, code: int) -> None:
    position = fleet.web.index(bad)
    note(f"fleet of {len(fleet.web)}, stopped at server {position + 1}: exit code {done.code}")
    assert done.code == code, str(done)
    assert len(done.errors()) == 1, str(done)
    assert bad in done.errors()[0], str(done)
    for host in fleet.web[:position]:
        assert fleet.world.serving(host, DOMAIN, tls=False).startswith(commit), f"{host}: {done}"
    for host in fleet.web[position + 1 :]:
        assert fleet.world.live(host, APP) == before[host], f"{host}: {done}"
        assert fleet.world.serving(host, DOMAIN, tls=False) == before[host]

"""The release state machine, cut at every point: afterwards one whole release serves and a rerun succeeds."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from zarpar_host import files, look, processes, switch
from zarpar_host.errors import HostError
from zarpar_host.files import replace_link
from zarpar_host.machine import Machine, WithoutWeb, machine_for
from zarpar_host.releases import settings_of
from zarpar_host.state import SLOTS, Live, Places, State, deploying, load, locked, save

HEALTH = {"path": "/health", "status": 200, "host": "a.example.com", "body": "", "timeout": 1, "passes": 2}


class Cut(BaseException):
    """Stands for kill -9: nothing catches it."""


class FakeHost:
    """What is outside the process and so survives its death: slots, nginx, processes, timers.

    running: (slot, instance) to release; ending: those that were told to stop, and have a last task.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        self.slots: dict[str, str] = {}
        self.visitors: Live | None = None
        self.watchers: set[str] = set()
        self.restarted: set[str] = set()
        self.sick: set[str] = set()
        self.sick_for_visitors: set[str] = set()
        self.running: dict[tuple[str, str], str] = {}
        self.ending: dict[tuple[str, str], str] = {}
        self.dying: set[str] = set()  # releases, or instances, whose processes end as soon as they are started
        self.timers: dict[str, str] = {}
        self.shuts_down = False

    def reboot(self) -> None:
        """The power went: what is on the disk stays, and what nobody enabled is gone."""
        self.slots, self.running, self.ending, self.timers, self.watchers = {}, {}, {}, {}, set()

    def never_two_schedulers(self) -> None:
        """Two would send each task twice, whatever release each is of."""
        there = [place for place in {**self.ending, **self.running} if place[1] in ("beat-1", "clock-1")]
        assert len(there) <= 1, there


class FakeMachine:
    """Counts its calls and cuts the process before or after the chosen one."""

    def __init__(self, host: FakeHost, cut_at: int = -1) -> None:
        self.host, self.cut_at, self.calls = host, cut_at, 0

    def _step(self) -> None:
        if self.calls == self.cut_at:
            raise Cut
        self.calls += 1

    def give_slot(self, live: Live) -> None:
        self._step()
        link = self.host.places.slot_file(live.slot)
        link.parent.mkdir(parents=True, exist_ok=True)
        replace_link(link, str(self.host.places.environment(live.release)))
        self._step()

    def start_slot(self, live: Live) -> None:
        self.give_slot(live)
        self.host.slots[live.slot] = live.release
        self._step()

    def start_later(self, live: Live) -> None:
        self.start_slot(live)

    def stop_slot(self, slot: str, *, wait: bool = True) -> None:  # noqa: ARG002
        self._step()
        self.host.slots.pop(slot, None)
        self._step()

    kill_slot = stop_slot

    def slot_alive(self, slot: str) -> bool:
        return slot in self.host.slots

    def journal(self, slot: str) -> str:
        return f"log of {slot}"

    def gate(self, slot: str, _check: object) -> None:
        self._step()
        if self.host.slots.get(slot) in self.host.sick:
            raise HostError("not healthy within 1 s")

    def ask_site(self, _check: object, _tls: bool) -> str:
        self._step()
        live = self.host.visitors
        if live is None or self.host.slots.get(live.slot) != live.release:
            return "502"
        return "500" if live.release in self.host.sick_for_visitors else ""

    def point(self, live: Live | None, _previous: str) -> bool:
        self._step()
        changed = self.host.visitors != live
        self.host.visitors = live
        self._step()
        return changed

    def points_to(self, live: Live) -> bool:
        return self.host.visitors is not None and self.host.visitors.slot == live.slot

    def watch_later(self, token: str) -> None:
        self._step()
        self.host.watchers.add(token)
        self._step()

    def slot_restarted(self, slot: str) -> bool:
        return slot not in self.host.slots or self.host.slots[slot] in self.host.restarted

    def going_down(self) -> bool:
        return self.host.shuts_down

    def ask_slot(self, slot: str, _check: object) -> str:
        return "500" if self.host.slots.get(slot) in self.host.sick else ""

    def drain_later(self, slot: str, _seconds: int) -> None:
        self._step()
        self.host.slots.pop(slot, None)

    def start_processes(self, slot: str, instances: Sequence[str]) -> None:
        for name in instances:
            self._step()
            release = self.host.places.slot_file(slot).readlink().name  # whose environment it gets
            self.host.running.setdefault((slot, name), release)
            self.host.ending.pop((slot, name), None)
            self.host.never_two_schedulers()
        self._step()

    start_processes_later = start_processes

    def stop_processes(self, slot: str, instances: Sequence[str] = ("*",), *, wait: bool) -> None:
        for place in [*self.host.running, *self.host.ending]:
            if place[0] == slot and (place[1] in instances or "*" in instances):
                self._step()
                release = self.host.running.pop(place, "") or self.host.ending.get(place, "")
                self.host.ending[place] = release
                if wait:
                    del self.host.ending[place]
        self._step()

    def processes_ended(self, slot: str, instances: Sequence[str]) -> dict[str, str]:
        ill = {**self.host.running}
        return {
            name: "code 3" for name in instances if (slot, name) not in ill or {ill[slot, name], name} & self.host.dying
        }

    def process_journal(self, slot: str, instance: str) -> str:
        return f"log of {instance} in {slot}"

    def units_down(self, units: Sequence[str]) -> list[str]:
        places = self.host.places
        up = {places.process_unit(*place) for place in self.host.running} | set(map(places.timer, self.host.timers))
        return [unit for unit in units if unit not in up]

    def set_timers(self, calendar: Mapping[str, str], *, boot: bool = False) -> None:  # noqa: ARG002
        self._step()
        self.host.timers = dict(calendar)
        self._step()


class FakeWorker(FakeMachine):
    """A host that runs processes only: what WithoutWeb leaves out, it leaves out here."""

    slot_alive = WithoutWeb.slot_alive  # type: ignore[assignment]
    gate = WithoutWeb.gate  # type: ignore[assignment]
    ask_site = WithoutWeb.ask_site  # type: ignore[assignment]
    slot_restarted = WithoutWeb.slot_restarted  # type: ignore[assignment]
    ask_slot = WithoutWeb.ask_slot  # type: ignore[assignment]
    drain_later = WithoutWeb.drain_later  # type: ignore[assignment]
    start_slot = FakeMachine.give_slot


def fake(host: FakeHost, cut_at: int = -1) -> Any:
    """The machine of a host, as `part` makes it."""
    kind = FakeWorker if machine_for(host.places).__class__ is WithoutWeb else FakeMachine
    return kind(host, cut_at)


@pytest.fixture(autouse=True)
def proven_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "PROVE_FOR", 0.0)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return at(tmp_path)


def at(root: Path, part: str = "") -> Places:
    """A host that is the first of its fleet; `part`: what it runs of the app, all without."""
    places = Places("shop", root)
    places.once.parent.mkdir(parents=True)
    places.once.touch()
    if part:
        places.part.write_text(part)
    return places


PARTS = pytest.mark.parametrize("part", ["", "processes"])


def process(name: str, count: int = 1, single: bool = False) -> dict[str, Any]:
    return {"name": name, "command": name, "count": count, "stop": 300, "single": single}


# How many processes there are, and what they are called, differs from release to release.
PROCESSES = {
    "one": [process("worker", 1), process("beat", single=True)],
    "two": [process("worker", 3), process("clock", single=True)],
    "three": [process("mailer", 1)],
}


def add_release(places: Places, name: str, keep: int = 2, watch: int = 0, beside: Any = None) -> None:
    folder = places.release(name)
    folder.mkdir(parents=True)
    app = {
        "health": HEALTH,
        "canonical": "a.example.com",
        "tls": "letsencrypt",
        "drain": 1,
        "keep": keep,
        "watch": watch,
    }
    beside = PROCESSES.get(name, [process("worker", 2), process("beat", single=True)]) if beside is None else beside
    facts = {"processes": beside, "schedules": [{"name": f"for-{name}", "command": "x", "at": "daily"}]}
    (folder / "release.json").write_text(json.dumps({"id": name, "migrate": "", "app": app, **facts}))
    for needed in ("venvs", "releases"):
        (places.home / needed).mkdir(exist_ok=True)
    state = load(places)
    state.note(name, status="prepared", venv="v")
    save(places, state)


def deploy(places: Places, host: FakeHost, release: str, cut_at: int = -1) -> dict[str, Any]:
    machine = fake(host, cut_at)
    answer = switch.activate({"app": "shop", "release": release, "by": "t"}, places.root, machine)
    if "token" in answer:
        confirm = {"app": "shop", "token": answer["token"]}
        switch.confirm(confirm, places.root, machine)
    return answer


def assert_whole(places: Places, host: FakeHost, allowed: set[str]) -> None:
    """Visitors reach one of the allowed releases, whole; where there are none, no web server runs."""
    assert host.visitors is not None
    if processes.part(places) == "processes":
        assert not host.slots
    else:
        assert host.slots.get(host.visitors.slot) == host.visitors.release
    assert host.visitors.release in allowed


def assert_agrees(places: Places, host: FakeHost) -> None:
    """The processes that run are all of the live release and no others, a scheduler only once; so are the timers."""
    live = load(places).live
    settings = settings_of(places, live.release) if live else None
    wanted = processes.instances(places, settings) if settings else []
    assert host.running == {(live.slot, name): live.release for name in wanted if live}
    assert host.timers == (processes.calendar(places, settings) if settings else {})
    host.never_two_schedulers()


def test_first_and_second_release_alternate_slots(places: Places) -> None:
    host = FakeHost(places)
    add_release(places, "one")
    add_release(places, "two")
    assert deploy(places, host, "one")["outcome"] == "active"
    assert host.visitors == Live("one", "blue")
    assert deploy(places, host, "two")["outcome"] == "active"
    assert host.visitors == Live("two", "green")
    assert deploy(places, host, "two")["outcome"] == "unchanged"


def test_sick_release_is_never_shown(places: Places) -> None:
    host = FakeHost(places)
    add_release(places, "one")
    add_release(places, "bad")
    deploy(places, host, "one")
    host.sick.add("bad")
    with pytest.raises(HostError) as caught:
        deploy(places, host, "bad")
    assert caught.value.kind == "not_activated"
    assert host.visitors == Live("one", "blue")
    assert host.slots == {"blue": "one"}
    assert_agrees(places, host)
    assert load(places).releases["bad"]["status"] == "bad"


def test_release_that_fails_through_nginx_goes_back(places: Places) -> None:
    host = FakeHost(places)
    add_release(places, "one")
    add_release(places, "bad")
    deploy(places, host, "one")
    host.sick_for_visitors.add("bad")
    with pytest.raises(HostError) as caught:
        deploy(places, host, "bad")
    assert caught.value.kind == "rolled_back"
    assert host.visitors == Live("one", "blue")
    assert load(places).live == Live("one", "blue")


def watch(places: Places, host: FakeHost, token: str) -> dict[str, Any]:
    request = {"app": "shop", "token": token}
    return switch.watch(request, places.root, fake(host))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "CONFIRM_WITHIN", 0.02)
    monkeypatch.setattr(switch, "LOOK_EVERY", 0.01)


def switch_only(places: Places, host: FakeHost, release: str) -> str:
    request = {"app": "shop", "release": release, "lease": "d1"}
    return str(switch.activate(request, places.root, fake(host))["token"])


def confirm(places: Places, host: FakeHost, token: str) -> None:
    switch.confirm({"app": "shop", "token": token}, places.root, fake(host))


def watched(places: Places, host: FakeHost) -> str:
    """Release "two" after "one", confirmed and still watched; the token of its switch."""
    add_release(places, "one", watch=60)
    add_release(places, "two", watch=60)
    deploy(places, host, "one")
    token = switch_only(places, host, "two")
    confirm(places, host, token)
    return token


def test_unconfirmed_switch_goes_back_by_itself(places: Places, quick: None) -> None:
    host = FakeHost(places)
    add_release(places, "one")
    add_release(places, "two")
    deploy(places, host, "one")
    token = switch_only(places, host, "two")
    assert host.visitors == Live("two", "green")
    assert watch(places, host, token)["outcome"] == "rolled_back"
    assert host.visitors == Live("one", "blue")
    with pytest.raises(HostError, match="undone"):
        confirm(places, host, token)


@pytest.mark.parametrize("illness", ["sick", "restarted", "dying"])
def test_confirmed_release_that_falls_ill_goes_back_by_itself(places: Places, quick: None, illness: str) -> None:
    host = FakeHost(places)
    token = watched(places, host)
    assert host.slots == {"blue": "one", "green": "two"}  # the old one stays warm
    getattr(host, illness).add("two")
    assert watch(places, host, token)["outcome"] == "rolled_back"
    assert host.visitors == Live("one", "blue")
    assert_agrees(places, host)
    assert load(places).releases["two"]["status"] == "bad"


def test_it_goes_back_as_well_while_the_next_release_is_built(places: Places, quick: None) -> None:
    """A build or a migration may take many minutes, and visitors must not wait for it."""
    host = FakeHost(places)
    token = watched(places, host)
    host.sick.add("two")
    with deploying(places, "ana", "prepare"):
        assert watch(places, host, token)["outcome"] == "rolled_back"
    assert host.visitors == Live("one", "blue")
    assert_agrees(places, host)


def test_a_host_that_is_shut_down_does_not_go_back(places: Places, quick: None) -> None:
    """The app ends then, and so does the watcher, in whatever order; at boot the confirmed release is the good one."""
    host = FakeHost(places)
    token = watched(places, host)
    host.restarted.add("two")
    host.shuts_down = True
    before = (places.data / "state.json").read_text()
    assert watch(places, host, token)["outcome"] == "unchanged"
    assert (places.data / "state.json").read_text() == before


def test_nothing_is_pruned_while_the_next_release_is_built(places: Places, quick: None) -> None:
    """No state knows that release yet, so its folder would be taken for what somebody left."""
    host = FakeHost(places)
    add_release(places, "one", watch=0)
    for name in ("two", "three"):
        add_release(places, name, watch=1)
        built = places.release(f"after-{name}")
        token = switch_only(places, host, name)
        confirm(places, host, token)
        with deploying(places, "ana", "prepare") if name == "two" else contextlib.nullcontext():
            built.mkdir()
            assert watch(places, host, token)["outcome"] == "active"
        assert load(places).releases[name]["status"] == "good"
        assert places.release("after-two").exists() == (name == "two")


@pytest.mark.parametrize("confirmed", [True, False])
def test_first_release_has_nothing_to_go_back_to_and_stays(places: Places, quick: None, confirmed: bool) -> None:
    host = FakeHost(places)
    add_release(places, "one", watch=60)
    token = switch_only(places, host, "one")
    if confirmed:
        confirm(places, host, token)
        host.restarted.add("one")
    assert watch(places, host, token)["outcome"] == "active"
    assert_whole(places, host, {"one"})
    assert load(places).releases["one"]["status"] == "bad"
    host.restarted.clear()
    add_release(places, "two")
    deploy(places, host, "two")
    assert_whole(places, host, {"two"})


def test_watch_ends_well(places: Places, quick: None) -> None:
    host = FakeHost(places)
    add_release(places, "one", watch=0)
    add_release(places, "two", watch=1)
    deploy(places, host, "one")
    token = switch_only(places, host, "two")
    confirm(places, host, token)
    assert load(places).releases["two"]["status"] != "good"
    assert watch(places, host, token)["outcome"] == "active"
    assert load(places).releases["two"]["status"] == "good"
    assert host.slots == {"green": "two"}
    assert_agrees(places, host)


def test_deploy_need_not_wait_for_an_old_slot_that_ends_slowly(places: Places) -> None:
    """An app may take long to end; the host's lock of the app is free while it does."""
    stops = []

    class Slow(FakeMachine):
        def wait_drained(self, slot: str, seconds: float) -> None:
            assert (slot, seconds) == ("green", 30)

        def stop_slot(self, slot: str, *, wait: bool = True) -> None:
            with locked(places, "a deploy", "activate", wait=0) if wait else contextlib.nullcontext():
                stops.append((slot, wait))

    host = FakeHost(places)
    add_release(places, "one")
    deploy(places, host, "one")
    request = {"app": "shop", "slot": "green", "seconds": "30"}
    assert switch.drain(request, places.root, Slow(host))["outcome"] == "stopped"  # type: ignore[arg-type]
    assert stops == [("green", False), ("green", True)]
    add_release(places, "two")
    deploy(places, host, "two")
    assert switch.drain(request, places.root, Slow(host))["outcome"] == "unchanged"  # type: ignore[arg-type]
    assert len(stops) == 2


def test_next_deploy_ends_the_watch_of_the_one_before(places: Places) -> None:
    host = FakeHost(places)
    for name in ("one", "two", "three"):
        add_release(places, name, watch=600)
        deploy(places, host, name)
        assert_whole(places, host, {name})
        assert_agrees(places, host)
    assert load(places).releases["two"]["status"] == "good"


def test_rollback_while_watched_is_instant(places: Places) -> None:
    host = FakeHost(places)
    for name in ("one", "two"):
        add_release(places, name, watch=600)
        deploy(places, host, name)
    machine = FakeMachine(host)
    answer = switch.rollback({"app": "shop", "by": "t"}, places.root, machine)  # type: ignore[arg-type]
    assert answer["release"] == "one"
    assert "token" not in answer
    assert_whole(places, host, {"one"})
    assert_agrees(places, host)
    assert [load(places).releases[name]["status"] for name in ("one", "two")] == ["good", "bad"]


def test_undo_takes_back_only_its_own_deploy(places: Places) -> None:
    host = FakeHost(places)
    for name in ("one", "two"):
        add_release(places, name)
        confirm(places, host, switch_only(places, host, name))
    machine = FakeMachine(host)
    other = switch.undo({"app": "shop", "deploy": "other"}, places.root, machine)  # type: ignore[arg-type]
    assert other["outcome"] == "unchanged"
    assert_whole(places, host, {"two"})
    answer = switch.undo({"app": "shop", "deploy": "d1", "lease": "d1"}, places.root, machine)  # type: ignore[arg-type]
    assert answer["release"] == "one"
    assert_whole(places, host, {"one"})


def test_watcher_of_an_older_switch_changes_nothing(places: Places) -> None:
    host = FakeHost(places)
    add_release(places, "one")
    deploy(places, host, "one")
    assert watch(places, host, "old")["outcome"] == "unchanged"
    assert host.visitors == Live("one", "blue")


def count_steps(tmp_path: Path, part: str = "") -> int:
    places = at(tmp_path / "count", part)
    host = FakeHost(places)
    add_release(places, "one")
    add_release(places, "two")
    deploy(places, host, "one")
    machine = fake(host)
    answer = switch.activate({"app": "shop", "release": "two"}, places.root, machine)
    switch.confirm({"app": "shop", "token": answer["token"]}, places.root, machine)
    return int(machine.calls)


@PARTS
def test_cut_at_every_step(tmp_path: Path, quick: None, part: str) -> None:
    """Kill at each call to the outside; then either the watcher acts or the same command runs again."""
    steps = count_steps(tmp_path, part)
    assert steps > 10
    for cut_at in range(steps):
        for aftermath in ("rerun", "watcher then rerun"):
            root = tmp_path / f"{cut_at}-{aftermath}"
            places = at(root, part)
            host = FakeHost(places)
            add_release(places, "one")
            add_release(places, "two")
            deploy(places, host, "one")
            host.watchers.clear()  # it has ended
            with pytest.raises(Cut):
                deploy(places, host, "two", cut_at)
            assert_whole(places, host, {"one", "two"})
            if aftermath == "watcher then rerun":
                for token in list(host.watchers):
                    watch(places, host, token)
                    assert_whole(places, host, {"one", "two"})
                assert_agrees(places, host)  # also when there was no watcher yet
            deploy(places, host, "two")
            assert_whole(places, host, {"two"})
            assert_agrees(places, host)
            assert load(places).pending is None


@PARTS
def test_cut_at_every_durable_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """Kill before each fsync: state.json is whole and names a release that can be served."""
    real = os.fsync
    cut_at = 0
    while True:
        root = tmp_path / str(cut_at)
        places = at(root, part)
        host = FakeHost(places)
        add_release(places, "one")
        add_release(places, "two")
        deploy(places, host, "one")
        calls = 0

        def fsync(descriptor: int, limit: int = cut_at) -> None:
            nonlocal calls
            if calls == limit:
                raise Cut
            calls += 1
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        try:
            deploy(places, host, "two")
            finished = True
        except Cut:
            finished = False
        monkeypatch.setattr(os, "fsync", real)
        assert load(places).live in (Live("one", "blue"), Live("two", "green"))
        assert_whole(places, host, {"one", "two"})
        deploy(places, host, "two")
        assert_whole(places, host, {"two"})
        assert_agrees(places, host)
        if finished:
            break
        cut_at += 1
    assert cut_at >= 6


def rollback(places: Places, host: FakeHost) -> None:
    answer = switch.rollback({"app": "shop"}, places.root, fake(host))
    if "token" in answer:
        confirm(places, host, answer["token"])


def test_rollback_walks_back_and_skips_bad_ones(places: Places) -> None:
    host = FakeHost(places)
    host.sick.add("bad")
    for name in ("one", "two", "bad", "three"):
        add_release(places, name, keep=5)
        if name == "bad":
            with pytest.raises(HostError):
                deploy(places, host, name)
        else:
            deploy(places, host, name)
    for expected in ("two", "one"):
        rollback(places, host)
        assert_whole(places, host, {expected})
        assert_agrees(places, host)
    with pytest.raises(HostError, match="no earlier good release"):
        rollback(places, host)
    assert_whole(places, host, {"one"})


def test_prune_keeps_live_previous_and_newest_good(places: Places) -> None:
    host = FakeHost(places)
    for number in range(6):
        add_release(places, f"r{number}")
        deploy(places, host, f"r{number}")
    host.sick |= {f"s{number}" for number in range(10)}
    for number in range(10):
        add_release(places, f"s{number}")
        with pytest.raises(HostError):
            deploy(places, host, f"s{number}")
    add_release(places, "last")
    deploy(places, host, "last")
    left = {path.name for path in (places.home / "releases").iterdir()}
    assert {"last", "r5"} <= left
    assert len(left) <= 3


def test_order_is_by_sequence_not_by_date(places: Places) -> None:
    state = State()
    for name in ("a", "b", "c"):
        state.note(name, status="good")
    state.note("a", activated=10)
    state.live = Live("a", "blue")
    assert state.newest_first() == ["a", "c", "b"]
    assert state.previous() == "c"


def test_prune_by_hand(places: Places) -> None:
    host = FakeHost(places)
    for name in ("r1", "r2", "r3", "r4"):
        add_release(places, name, keep=9)
        deploy(places, host, name)
    answer = switch.prune_now({"app": "shop", "keep": "1"}, places.root)
    left = sorted(path.name for path in (places.home / "releases").iterdir())
    assert (answer["changed"], left) == (True, ["r3", "r4"])
    assert sorted(load(places).releases) == ["r3", "r4"]
    assert not switch.prune_now({"app": "shop"}, places.root)["changed"]


@PARTS
@pytest.mark.parametrize("aftermath", ["reboot", "recover by hand"])
def test_recover_after_a_cut_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None, aftermath: str, part: str
) -> None:
    """Boot, or a person on the host, makes all of it one whole release, whichever state.json names."""
    monkeypatch.setattr(files, "Transaction", lambda: FakeTransaction())
    for cut_at in range(count_steps(tmp_path, part)):
        places = at(tmp_path / str(cut_at), part)
        host = FakeHost(places)
        for name in ("one", "two"):
            add_release(places, name)
        deploy(places, host, "one")
        with pytest.raises(Cut):
            deploy(places, host, "two", cut_at)
        if aftermath == "reboot":
            host.reboot()
        monkeypatch.setattr(switch, "machine_for", lambda _places, host=host: fake(host))
        answer = switch.recover({}, places.root)
        assert_whole(places, host, {answer["apps"]["shop"]})
        assert_agrees(places, host)
        for name in ("two", "one"):
            deploy(places, host, name)
            assert_whole(places, host, {name})
            assert_agrees(places, host)


class FakeTransaction:
    """A host on which no manifest was cut."""

    def undo(self) -> list[str]:
        return []


@PARTS
@pytest.mark.parametrize("aftermath", ["rollback", "deploy", "watcher"])
def test_cut_at_every_step_of_going_back(tmp_path: Path, quick: None, aftermath: str, part: str) -> None:
    """A rollback while the release is watched, cut anywhere: whatever comes next ends it."""
    cut_at = 0
    while True:
        places = at(tmp_path / str(cut_at), part)
        host = FakeHost(places)
        for name in ("one", "two"):
            add_release(places, name, watch=600)
            deploy(places, host, name)
        try:
            switch.rollback({"app": "shop"}, places.root, fake(host, cut_at))
            finished = True
        except Cut:
            finished = False
        assert_whole(places, host, {"one", "two"})
        pending = load(places).pending
        if aftermath == "rollback" or pending:
            request = {"app": "shop", "to": "one"}
            switch.rollback(request, places.root, fake(host))
        elif aftermath == "deploy":
            deploy(places, host, "one")
        else:
            for token in list(host.watchers):
                watch(places, host, token)
        assert_whole(places, host, {"one"})
        assert_agrees(places, host)
        if finished:
            break
        cut_at += 1
    assert cut_at > 5


@pytest.mark.parametrize("what", ["two", "worker-3", "clock-1"])
def test_process_that_ends_at_once_stops_the_release(places: Places, what: str) -> None:
    """One of many, or the scheduler, for which the old one had to end: nothing of the old release is missing after."""
    host = FakeHost(places)
    for name in ("one", "two"):
        add_release(places, name)
    deploy(places, host, "one")
    host.dying.add(what)
    with pytest.raises(HostError) as caught:
        deploy(places, host, "two")
    assert caught.value.kind == "not_activated"
    assert "ended at once (code 3)" in caught.value.summary
    assert "log of" in caught.value.detail
    assert "Release one still serves" in caught.value.hint
    assert host.slots == {"blue": "one"}
    assert host.visitors == Live("one", "blue")
    assert_agrees(places, host)
    assert load(places).releases["two"]["status"] == "bad"


def test_workers_that_stay_up_are_not_disturbed_by_a_bad_release(places: Places) -> None:
    """The old ones are told to end only when the new ones have proved themselves."""
    host = FakeHost(places)
    for name in ("one", "two"):
        add_release(places, name)
    deploy(places, host, "one")
    host.dying.add("worker-1")
    told: list[str] = []
    machine = FakeMachine(host)
    stop = machine.stop_processes
    machine.stop_processes = lambda slot, *names, wait: (told.append(slot), stop(slot, *names, wait=wait))[1]  # type: ignore[method-assign, assignment]
    with pytest.raises(HostError):
        switch.activate({"app": "shop", "release": "two"}, places.root, machine)  # type: ignore[arg-type]
    assert set(told) == {"green"}


def test_old_processes_are_told_to_end_before_visitors_reach_the_new_release(places: Places) -> None:
    """Else they would be sent tasks of the new code; they are given their time, and nobody waits for them."""
    host = FakeHost(places)
    for name in ("one", "two"):
        add_release(places, name)
    deploy(places, host, "one")
    seen: list[set[tuple[str, str]]] = []
    machine = FakeMachine(host)
    point = machine.point
    machine.point = lambda live, previous: (seen.append(set(host.running)), point(live, previous))[1]  # type: ignore[method-assign]
    switch.activate({"app": "shop", "release": "two"}, places.root, machine)  # type: ignore[arg-type]
    assert seen[-1] == {("green", name) for name in ("worker-1", "worker-2", "worker-3", "clock-1")}
    assert set(host.ending) == {("blue", "worker-1")}, "a scheduler has no last task, and was waited for"


def test_slot_is_used_again_only_when_its_last_tasks_are_done(places: Places) -> None:
    host = FakeHost(places)
    for name in ("one", "two", "three"):
        add_release(places, name)
    deploy(places, host, "one")
    deploy(places, host, "two")
    assert set(host.ending) == {("blue", "worker-1")}
    deploy(places, host, "three")
    assert {slot for slot, _ in host.ending} == {"green"}
    assert host.running == {("blue", "mailer-1"): "three"}


def test_process_that_was_stopped_is_a_reason_to_act(places: Places) -> None:
    """`look` and a second deploy see it; all that it takes is its start."""
    host = FakeHost(places)
    add_release(places, "two")
    deploy(places, host, "two")
    del host.running["blue", "worker-2"]
    settings = settings_of(places, "two")
    machine: Any = FakeMachine(host)
    assert not switch.serves(places, machine, load(places), "two", settings)
    deploy(places, host, "two")
    assert load(places).live == Live("two", "blue")
    assert_agrees(places, host)
    host.timers = {}
    assert not switch.serves(places, machine, load(places), "two", settings)
    deploy(places, host, "two")
    assert_agrees(places, host)


def test_other_hosts_of_a_fleet_run_no_scheduler_and_no_schedule(places: Places) -> None:
    """And a host that is no longer the first, or has become it, follows."""
    host = FakeHost(places)
    add_release(places, "two")
    places.once.unlink()
    deploy(places, host, "two")
    workers = {("blue", f"worker-{number}"): "two" for number in (1, 2, 3)}
    assert (host.running, host.timers) == (workers, {})
    for now_first in (True, False):
        places.once.touch() if now_first else places.once.unlink()
        switch.agree({"app": "shop"}, places.root, FakeMachine(host))  # type: ignore[arg-type]
        assert host.running == workers | ({("blue", "clock-1"): "two"} if now_first else {})
        assert host.timers == ({"for-two": "daily"} if now_first else {})
        assert not host.ending


def test_app_without_processes_costs_no_call(places: Places) -> None:
    host = FakeHost(places)
    machine: Any = FakeMachine(host)
    for name in ("stop_processes", "start_processes", "start_processes_later", "processes_ended"):
        setattr(machine, name, None)  # a call would fail
    for name in ("one", "two", "three"):
        add_release(places, name, beside=[])
        answer = switch.activate({"app": "shop", "release": name}, places.root, machine)
        switch.confirm({"app": "shop", "token": answer["token"]}, places.root, machine)
    assert set(load(places).releases) == {"two", "three"}
    assert {places.slot_file(slot).readlink().name for slot in SLOTS} == {"two", "three"}


def test_visitors_on_another_slot_than_the_live_one_s_are_a_reason_to_act(places: Places) -> None:
    """Going back was cut before the live link: both releases run and answer."""
    host = FakeHost(places)
    for name in ("one", "two"):
        add_release(places, name, beside=[], watch=600)
        deploy(places, host, name)
    state = load(places)
    state.live, state.pending = Live("one", "blue"), None
    save(places, state)
    host.timers = {"for-one": "daily"}
    assert deploy(places, host, "one")["outcome"] == "unchanged"
    assert_whole(places, host, {"one"})


# -- a host that runs only one part of an app ----------------------------------------------------------------------


@pytest.fixture
def worker(tmp_path: Path) -> Places:
    return at(tmp_path, "processes")


def test_which_machine_a_host_is(tmp_path: Path) -> None:
    for part, kind in (("", Machine), ("web", Machine), ("processes", WithoutWeb)):
        assert type(machine_for(at(tmp_path / f"of-{part}", part))) is kind


def test_worker_host_switches_its_processes(worker: Places) -> None:
    host = FakeHost(worker)
    host.sick |= {"one", "two"}  # whoever asked for a page would get none
    host.sick_for_visitors |= {"one", "two"}
    for name in ("one", "two"):
        add_release(worker, name)
        assert deploy(worker, host, name)["outcome"] == "active"
        assert_whole(worker, host, {name})
        assert_agrees(worker, host)
        assert deploy(worker, host, name)["outcome"] == "unchanged"
    assert set(host.ending) == {("blue", "worker-1")}
    rollback(worker, host)
    assert_whole(worker, host, {"one"})
    assert_agrees(worker, host)


def test_worker_host_whose_process_does_not_stay_up_keeps_the_old_ones(worker: Places) -> None:
    host = FakeHost(worker)
    for name in ("one", "two"):
        add_release(worker, name)
    deploy(worker, host, "one")
    host.dying.add("worker-2")
    with pytest.raises(HostError) as caught:
        deploy(worker, host, "two")
    assert caught.value.kind == "not_activated"
    assert load(worker).live == Live("one", "blue")
    assert_agrees(worker, host)


def test_worker_host_goes_back_when_a_process_dies_while_it_is_watched(worker: Places, quick: None) -> None:
    host = FakeHost(worker)
    for name in ("one", "two"):
        add_release(worker, name, watch=60)
    deploy(worker, host, "one")
    token = switch_only(worker, host, "two")
    confirm(worker, host, token)
    host.dying.add("worker-3")
    assert watch(worker, host, token)["outcome"] == "rolled_back"
    assert_whole(worker, host, {"one"})
    assert_agrees(worker, host)


def test_worker_host_runs_an_app_that_has_nothing_for_it(worker: Places) -> None:
    """So every host of a fleet has the same releases, and a rollback finds them."""
    host = FakeHost(worker)
    for name in ("one", "two"):
        add_release(worker, name, beside=[])
        assert deploy(worker, host, name)["outcome"] == "active"
    assert load(worker).live == Live("two", "green")
    assert not host.running


def test_web_host_runs_no_process(places: Places) -> None:
    places.part.write_text("web")
    places.once.unlink()
    host = FakeHost(places)
    for name in ("one", "two"):
        add_release(places, name)
        deploy(places, host, name)
        assert_whole(places, host, {name})
        assert (host.running, host.timers) == ({}, {})


def seen(places: Places, host: FakeHost, part: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """What `look` says of the release `two`: whether there is nothing to do for it."""
    monkeypatch.setattr(look, "machine_for", lambda _places: fake(host))
    request = {"manifests": {}, "releases": {"shop": "two"}, "part": part}
    return bool(look.look(request, places.root)["releases"]["shop"]["served"])


@pytest.mark.parametrize("now", ["web", ""])
def test_host_follows_when_the_group_worker_comes_or_goes(
    places: Places, monkeypatch: pytest.MonkeyPatch, now: str
) -> None:
    """The role writes `part`; nothing ends or starts before the release is activated here, after the workers."""
    before = "" if now else "web"
    places.part.write_text(before)
    host = FakeHost(places)
    add_release(places, "two")
    deploy(places, host, "two")
    were = dict(host.running)
    assert seen(places, host, before, monkeypatch)
    assert not seen(places, host, now, monkeypatch), "before the role has run"
    places.part.write_text(now)
    assert host.running == were
    assert not seen(places, host, now, monkeypatch), "also when a run was cut after the role"
    deploy(places, host, "two")
    assert bool(host.running) == (not now)
    assert load(places).live == Live("two", "blue"), "the release is the same one, and visitors were not switched"
    assert_agrees(places, host)
    assert seen(places, host, now, monkeypatch)

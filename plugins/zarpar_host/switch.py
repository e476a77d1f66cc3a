"""The switch of an app from one release to another, as a state machine that can be cut at any point.

The order of its durable writes, and what a cut after each leaves:
1. slot file, idle slot started, health gate passed ... the old release serves; the slot is stopped by the next run
2. the watcher's unit is started ...................... it makes the processes agree with state.json, and ends
3. processes: the new ones start and must stay up, .... as 2: the old release's run, the new one's do not
   the old ones end their last task; schedulers are
   stopped before the new ones start
4. state.json: live = new, pending = old .............. the watcher, the next verb or the boot goes back to old
5. the live link, then the timers of schedules ........ as 4
6. look through nginx; the controller confirms ........ without a confirm in time the watcher goes back
7. state.json: pending is confirmed ................... the new release serves, and is watched for a while: when it
                                                        dies or falls ill meanwhile, the host goes back by itself
8. state.json: pending = none, release good ........... the new release serves
9. drain of the old slot (a unit of its own), prune ... done again by the next run

The live link, the processes and the timers are derived from state.json alone, by `_derive`.

On a host that runs processes only (`machine.WithoutWeb`) a release is live in a slot that has no web server: 1 and 6
ask nobody, the processes alone are proved and watched, and nothing is drained.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from zarpar_host import hints, lease, processes, schema
from zarpar_host.errors import HostError
from zarpar_host.health import Check
from zarpar_host.machine import Machine, machine_for
from zarpar_host.releases import prune, settings_of
from zarpar_host.state import SLOTS, Live, Pending, Places, State, all_apps, deploying, load, locked, now, record, save

CONFIRM_WITHIN = 60
LOOK_EVERY = 1.0
ILL_LOOKS = 3
PROVE_FOR = 3.0  # seconds that new processes must stay up before the switch
PROVE_EVERY = 0.2
ENDED = "ended after the switch"


def activate(request: dict[str, Any], root: Path = Path("/"), machine: Machine | None = None) -> dict[str, Any]:
    """Make a prepared release live. request: app (its name), release, by, lease.

    The answer's token must be given to `confirm` in time, else the host goes back by itself. Outcomes: "active",
    "unchanged"; a failure before the switch has kind "not_activated", one after it, undone, "rolled_back".
    """
    places = Places(request["app"], root)
    machine = machine or machine_for(places)
    release = request["release"]
    settings = settings_of(places, release)
    state = load(places)
    if serves(places, machine, state, release, settings):  # nothing to do: needs no lock
        return {"outcome": "unchanged", "changed": False, "release": release}
    lease.hold(places, request)
    with _alone(places, request, "activate"):
        state = _settled(places, machine)
        if serves(places, machine, state, release, settings):
            return {"outcome": "unchanged", "changed": False, "release": release}
        return _switch(places, machine, state, release, settings, request)


@contextlib.contextmanager
def _alone(places: Places, request: dict[str, Any], verb: str) -> Iterator[None]:
    """Hold the app's releases and its state, for a verb (of request: by) that changes what is live."""
    who = str(request.get("by", ""))
    with deploying(places, who, verb), locked(places, who, verb):
        yield


def _switch(
    places: Places,
    machine: Machine,
    state: State,
    release: str,
    settings: dict[str, Any],
    request: dict[str, Any],
) -> dict[str, Any]:
    started = time.monotonic()
    check = Check.of(settings["app"]["health"])
    origin = state.live
    target = Live(release, SLOTS[1] if origin and origin.slot == SLOTS[0] else SLOTS[0])
    token = secrets.token_hex(4)
    try:
        _stop_processes(places, machine, target.slot, wait=True)  # the last tasks of the release that was here before
        machine.start_slot(target)
        machine.gate(target.slot, check)
        machine.watch_later(token)
        _hand_over(places, machine, origin, target, settings)
    except HostError as error:
        machine.kill_slot(target.slot)
        _agree(places, machine, state)
        _mark_failed(places, state, release, request, error)
        error.summary = f"release {release} was not activated: {error.summary}"
        error.hint = (
            error.hint
            or hints.of_start(error.detail)
            or (
                f"Release {origin.release} still serves. Mend the app, commit, and deploy again."
                if origin
                else "Nothing serves yet. Mend the app, commit, and deploy again."
            )
        )
        error.kind = "not_activated"
        raise
    state.live, state.pending = target, Pending(token, origin)
    if state.releases[release]["status"] != "good":  # a rollback is not the time that it took to release
        state.took(release, time.monotonic() - started)
    state.deploy, state.undo_to = str(request.get("lease") or ""), origin.release if origin else ""
    save(places, state)
    machine.point(target, origin.release if origin else "")
    machine.set_timers(processes.calendar(places, settings))
    problem = machine.ask_site(check, settings["app"]["tls"] != "off")
    if problem:
        journal = machine.journal(target.slot)
        _go_back(places, machine, state, f"through nginx: {problem}")
        raise HostError(
            f"release {release} was rolled back: through nginx: {problem}",
            detail=journal,
            hint=hints.of_start(journal),
            kind="rolled_back",
        )
    return {
        "outcome": "active",
        "changed": True,
        "release": release,
        "previous": origin.release if origin else "",
        "token": token,
        "took": round(time.monotonic() - started, 2),
    }


def _hand_over(places: Places, machine: Machine, origin: Live | None, target: Live, settings: dict[str, Any]) -> None:
    """Start the new processes, let the old ones end. Raises HostError when a new one does not stay up.

    The new ones are there before the old ones go, so that no task waits; the old ones take no task any more before
    anything of the new release, its web server or its scheduler, sends one that they would not know.
    """
    _prove(machine, target, processes.instances(places, settings, single=False))
    if origin:
        _stop_processes(places, machine, origin.slot, wait=False)
    _prove(machine, target, processes.instances(places, settings, single=True))


def _prove(machine: Machine, target: Live, instances: list[str]) -> None:
    """Start processes; they must stay up. Raises HostError with the log of one that does not."""
    if not instances:
        return
    machine.start_processes(target.slot, instances)
    deadline = time.monotonic() + PROVE_FOR
    while True:
        for name, how in machine.processes_ended(target.slot, instances).items():
            summary = f"{name} ended at once" + (f" ({how})" if how else "")
            raise HostError(summary, detail=machine.process_journal(target.slot, name), kind="unhealthy")
        if time.monotonic() >= deadline:
            return
        time.sleep(PROVE_EVERY)


def _stop_processes(places: Places, machine: Machine, slot: str, *, wait: bool) -> None:
    """Let the processes of a slot end their last task; `wait`: until all have. Schedulers are waited for anyhow."""
    link = places.slot_file(slot)
    if not link.is_symlink():
        return
    known = _settings(places, link.readlink().name)
    if known and not known["processes"]:
        return
    schedulers = processes.schedulers(known) if known else []
    if schedulers and not wait:
        machine.stop_processes(slot, schedulers, wait=True)
    machine.stop_processes(slot, wait=wait or not known)


def _agree(places: Places, machine: Machine, state: State, *, boot: bool = False) -> None:
    """Make processes and timers those of the live release: what else there is ends, what is missing starts."""
    live = state.live
    for slot in SLOTS:
        if not live or slot != live.slot:
            _stop_processes(places, machine, slot, wait=False)
    settings = _settings(places, live.release) if live else None
    if live and settings:
        instances, schedulers = processes.instances(places, settings), processes.schedulers(settings)
        for wait in (True, False):
            elsewhere = [name for name in processes.elsewhere(places, settings) if (name in schedulers) == wait]
            if elsewhere:
                machine.stop_processes(live.slot, elsewhere, wait=wait)
        if instances:
            machine.start_processes_later(live.slot, instances)
    machine.set_timers(processes.calendar(places, settings) if settings else {}, boot=boot)


def _settings(places: Places, release: str) -> dict[str, Any] | None:
    try:
        return settings_of(places, release)
    except HostError:
        return None


def confirm(request: dict[str, Any], root: Path = Path("/"), machine: Machine | None = None) -> dict[str, Any]:
    """The controller saw the switch. request: app, token, by, lease. Raises HostError when it was too late."""
    places = Places(request["app"], root)
    machine = machine or machine_for(places)
    with locked(places, request.get("by", ""), "confirm"):
        state = load(places)
        if not state.pending or state.pending.token != request["token"] or not state.live:
            raise HostError(
                "this switch was undone before it was confirmed",
                hint="Look at `zarpar status`, then deploy again.",
                kind="rolled_back",
            )
        state.pending = replace(state.pending, confirmed=True)
        state.note(state.live.release, activated_at=now(), activated_by=request.get("by", ""))
        save(places, state)
        record(places, "activated", release=state.live.release, by=request.get("by", ""))
        if settings_of(places, state.live.release)["app"]["watch"] == 0:
            _finish(places, machine, state)
    return {"outcome": "active", "changed": True, "release": state.live.release}


def rollback(request: dict[str, Any], root: Path = Path("/"), machine: Machine | None = None) -> dict[str, Any]:
    """Go back to `to`, or to the newest good release before the live one, through the same gate.

    Refused when that release does not know the database's present schema, unless request["force"]. The release
    that is left counts as bad. While the live release is still watched, its origin runs yet: going back is instant.
    """
    places = Places(request["app"], root)
    machine = machine or machine_for(places)
    lease.hold(places, request)
    with _alone(places, request, "rollback"):
        state = load(places)
        origin = state.pending.origin if state.pending else None
        target = request.get("to") or (origin.release if origin else state.previous())
        if not target:
            raise HostError("there is no earlier good release to go back to", kind="unknown_release")
        if state.live and target == state.live.release:
            _derive(places, machine, state)  # going back may have been cut half way
            return {"outcome": "unchanged", "changed": False, "release": target}
        if not request.get("force"):
            schema.require_known(places, target)
        if origin and origin.release == target:
            _go_back(places, machine, state, f"rolled back by {request.get('by', '')}")
            _mark_good(places, state)  # also one that was left as bad before: a person knows better
            return {"outcome": "active", "changed": True, "release": target}
        state = _settled(places, machine)
        left = state.live.release if state.live else ""
        answer = _switch(places, machine, state, target, settings_of(places, target), request)
        if left:
            state.note(left, status="bad")
            save(places, state)
    return answer


def undo(request: dict[str, Any], root: Path = Path("/"), machine: Machine | None = None) -> dict[str, Any]:
    """Take back what one deploy (request: app, deploy) switched on this host; nothing when it switched nothing."""
    state = load(Places(request["app"], root))
    if not state.undo_to or state.deploy != request["deploy"]:
        return {"outcome": "unchanged", "changed": False}
    return rollback({**request, "to": state.undo_to}, root, machine)


def watch(request: dict[str, Any], root: Path = Path("/"), machine: Machine | None = None) -> dict[str, Any]:
    """Watch a switch (request: app, token) to its end: see 5 to 7 above. Runs in a unit of its own."""
    places = Places(request["app"], root)
    machine = machine or machine_for(places)
    with locked(places, "the watcher", "watch", wait=600):  # until the switch itself has ended, however it did
        state = load(places)
    begin = time.monotonic()
    ill = 0
    while state.pending and state.pending.token == request["token"] and state.live:
        settings = settings_of(places, state.live.release)["app"]
        waited = time.monotonic() - begin
        problem = _illness(places, machine, state.live)
        if problem and machine.going_down():
            return {"outcome": "unchanged", "changed": False}  # the next boot settles it
        ill = ill + 1 if problem else 0
        if ENDED in problem or ill >= ILL_LOOKS:
            return _end_watch(places, machine, request["token"], problem)
        if not state.pending.confirmed and waited > CONFIRM_WITHIN:
            return _end_watch(places, machine, request["token"], "the controller did not confirm the switch")
        if state.pending.confirmed and waited >= settings["watch"] and not problem:
            return _end_watch(places, machine, request["token"], "")
        time.sleep(LOOK_EVERY)
        state = load(places)
    with locked(places, "the watcher", "watch", wait=600):  # whatever ended the switch may have been cut itself
        _derive(places, machine, load(places))
    return {"outcome": "unchanged", "changed": False}


def _illness(places: Places, machine: Machine, live: Live) -> str:
    if machine.slot_restarted(live.slot):
        return f"the app {ENDED}"
    settings = settings_of(places, live.release)
    instances = processes.instances(places, settings)
    for name, how in machine.processes_ended(live.slot, instances).items() if instances else ():
        return f"{name} {ENDED}" + (f" ({how})" if how else "")
    return machine.ask_slot(live.slot, Check.of(settings["app"]["health"]))


def _end_watch(places: Places, machine: Machine, token: str, problem: str) -> dict[str, Any]:
    """Finish the switch, or go back when there is a problem; unless another verb did either meanwhile."""
    with locked(places, "the watcher", "watch", wait=600):
        state = load(places)
        if not state.pending or state.pending.token != token:
            return {"outcome": "unchanged", "changed": False}
        if not problem:
            _finish(places, machine, state)
            return {"outcome": "active", "changed": True}
        if state.pending.origin is None:
            _keep(places, state, problem)
            return {"outcome": "active", "changed": True}
        _go_back(places, machine, state, problem)
        return {"outcome": "rolled_back", "changed": True}


def drain(request: dict[str, Any], root: Path = Path("/"), machine: Machine | None = None) -> dict[str, Any]:
    """Stop a slot (request: app, slot, seconds) that visitors no longer reach, when its last requests are done."""
    places = Places(request["app"], root)
    machine = machine or machine_for(places)
    machine.wait_drained(request["slot"], float(request["seconds"]))
    with locked(places, "the drain", "drain", wait=600):
        if request["slot"] in _slots_in_use(load(places)):
            return {"outcome": "unchanged", "changed": False}
        machine.stop_slot(request["slot"], wait=False)
    machine.stop_slot(request["slot"])  # its last requests end while the app is free: a deploy may come meanwhile
    return {"outcome": "stopped", "changed": True}


def prune_now(request: dict[str, Any], root: Path = Path("/")) -> dict[str, Any]:
    """Remove what is old, as every finished deploy does. request: app, keep (good releases; default: the app's own)."""
    places = Places(request["app"], root)
    lease.hold(places, request)
    with _alone(places, request, "prune"):
        state = load(places)
        keep = int(request.get("keep") or (settings_of(places, state.live.release)["app"]["keep"] if state.live else 5))
        removed = prune(places, state, keep)
        save(places, state)
    return {"removed": removed, "changed": bool(removed)}


def recover(_request: dict[str, Any], root: Path = Path("/")) -> dict[str, Any]:
    """Make every app agree with its state.json on one whole release; at boot, and by hand at any time."""
    from zarpar_host.files import Transaction  # only needed here

    Transaction().undo()
    outcomes = {}
    for places in all_apps(root):
        machine = machine_for(places)
        with locked(places, "the host itself", "recover", wait=120):
            state = load(places)
            if state.pending and state.pending.confirmed:
                _mark_good(places, state)
            elif state.pending and state.pending.origin is None:
                _keep(places, state, "the host restarted before the switch was confirmed")
            elif state.pending:
                _forget_pending(places, state, "the host restarted before the switch was confirmed")
            if state.live:
                machine.start_later(state.live)
            _derive(places, machine, state, boot=True)
            outcomes[places.app] = state.live.release if state.live else ""
    return {"apps": outcomes, "changed": False}


def agree(request: dict[str, Any], root: Path = Path("/"), machine: Machine | None = None) -> dict[str, Any]:
    """Make an app's (request: app) processes and timers agree with its live release; when `once` came or went."""
    places = Places(request["app"], root)
    with locked(places, "the host itself", "agree", wait=120):
        _agree(places, machine or machine_for(places), load(places))
    return {"changed": False}


def _slots_in_use(state: State) -> set[str]:
    return {live.slot for live in (state.live, state.pending.origin if state.pending else None) if live}


def _settled(places: Places, machine: Machine) -> State:
    """The state with no switch open: a confirmed one that is well is finished, any other goes back."""
    state = load(places)
    if state.pending and state.live:
        cut = "" if state.pending.confirmed else "the switch was cut before it was confirmed"
        problem = cut or _illness(places, machine, state.live)
        if problem and state.pending.origin:
            _go_back(places, machine, state, problem)
            return state
        _derive(places, machine, state)
        if problem:
            _keep(places, state, problem)
        else:
            _finish(places, machine, state)
    elif state.live:
        _derive(places, machine, state)
    return state


def _derive(places: Places, machine: Machine, state: State, *, boot: bool = False) -> None:
    """Make again what follows from the durable state: the live link, the processes, the timers."""
    origin = state.pending.origin if state.pending else None
    machine.point(state.live, origin.release if origin else state.previous())
    _agree(places, machine, state, boot=boot)


def _finish(places: Places, machine: Machine, state: State) -> None:
    """The watched release has proved itself: it is good, and its origin may end."""
    origin = state.pending.origin if state.pending else None
    _mark_good(places, state)
    if state.live:
        settings = settings_of(places, state.live.release)["app"]
        if origin:
            machine.drain_later(origin.slot, settings["drain"])
        _prune_unless_deploying(places, state, settings["keep"])
        save(places, state)


def _prune_unless_deploying(places: Places, state: State, keep: int) -> None:
    """A deploy that goes on makes a release that no state knows yet; when it ends well, it prunes."""
    try:
        with deploying(places, "the host itself", "prune", wait=0):
            prune(places, state, keep)
    except HostError as error:
        if error.kind != "locked":
            raise


def _mark_good(places: Places, state: State) -> None:
    if state.live:
        state.sequence += 1
        state.note(state.live.release, status="good", activated=state.sequence)
    state.pending = None
    save(places, state)


def _go_back(places: Places, machine: Machine, state: State, why: str) -> None:
    """Undo an open switch: the durable fact first, then the live link, then the processes, then the new slot."""
    left = state.live
    _forget_pending(places, state, why)
    if state.live and not machine.slot_alive(state.live.slot):
        machine.start_slot(state.live)
    _derive(places, machine, state)
    if left:
        machine.drain_later(left.slot, settings_of(places, left.release)["app"]["drain"])


def _keep(places: Places, state: State, why: str) -> None:
    """A first release that ought to go back has nothing to go back to: it stays, but does not count as good."""
    state.pending = None
    if state.live:
        state.note(state.live.release, status="bad", why=why)
        record(places, "kept", release=state.live.release, why=why)
    save(places, state)


def _forget_pending(places: Places, state: State, why: str) -> None:
    left = state.live
    origin = state.pending.origin if state.pending else None
    state.live, state.pending = origin, None
    if left and (origin is None or left.release != origin.release):
        state.note(left.release, status="bad", why=why)
    save(places, state)
    facts = {"release": left.release if left else "", "to": origin.release if origin else "", "why": why}
    record(places, "rolled back", **facts)


def _mark_failed(places: Places, state: State, release: str, request: dict[str, Any], error: HostError) -> None:
    if state.releases.get(release, {}).get("status") != "good":
        state.note(release, status="bad", why=error.summary)
        save(places, state)
    record(places, "not activated", release=release, by=request.get("by", ""), why=error.summary)


def serves(places: Places, machine: Machine, state: State, release: str, settings: dict[str, Any]) -> bool:
    """Whether a release is live, for good or watched, runs whole and answers visitors: then there is nothing to do."""
    if not state.live or state.live.release != release or (state.pending and not state.pending.confirmed):
        return False
    check = Check.of(settings["app"]["health"])
    slot = state.live.slot
    if not machine.points_to(state.live) or not machine.slot_alive(slot):
        return False
    units = processes.units(places, slot, settings)
    elsewhere = [places.process_unit(slot, name) for name in processes.elsewhere(places, settings)]
    if (units or elsewhere) and machine.units_down([*units, *elsewhere]) != elsewhere:
        return False
    return not machine.ask_site(check, settings["app"]["tls"] != "off")

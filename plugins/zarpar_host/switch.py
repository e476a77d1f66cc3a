"""The switch of an app from one release to another, as a state machine that can be cut at any point.

The order of its durable writes, and what a cut after each leaves:
1. slot file, idle slot started, health gate passed ... the old release serves; the slot is stopped by the next run
2. dead-man timer armed ............................... fires, finds nothing pending, does nothing
3. state.json: live = new, pending = old .............. `recover` (next verb, boot, or the timer) goes back to old
4. the live link ...................................... as 3
5. look through nginx; the controller confirms ........ without a confirm the timer goes back: as 3
6. state.json: pending = none, release good ........... the new release serves; recover finishes 7
7. drain of the old slot (a unit of its own), prune ... done again by the next run
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

from zarpar_host.errors import HostError
from zarpar_host.health import Check
from zarpar_host.machine import Machine
from zarpar_host.releases import prune, settings_of
from zarpar_host.state import SLOTS, Live, Pending, Places, State, all_apps, load, locked, record, save

CONFIRM_WITHIN = 60


def activate(request: dict[str, Any], root: Path = Path("/"), machine: Machine | None = None) -> dict[str, Any]:
    """Make a prepared release live. request: app (its name), release, by, confirm_within (seconds).

    The answer's token must be given to `confirm` in time, else the host goes back by itself. Outcomes: "active",
    "unchanged"; a failure before the switch has kind "not_activated", one after it, undone, "rolled_back".
    """
    places = Places(request["app"], root)
    machine = machine or Machine(places)
    with locked(places, request.get("by", ""), "activate"):
        state = _settled(places, machine)
        release = request["release"]
        settings = settings_of(places, release)
        if state.live and state.live.release == release and _is_well(machine, state.live, settings):
            return {"outcome": "unchanged", "changed": False, "release": release}
        return _switch(places, machine, state, release, settings, request)


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
    try:
        machine.start_slot(target)
        machine.gate(target.slot, check)
    except HostError as error:
        machine.stop_slot(target.slot)
        _mark_failed(places, state, release, request, error)
        error.summary = f"release {release} was not activated: {error.summary}"
        error.hint = error.hint or (
            f"Release {origin.release} still serves. Mend the app, commit, and deploy again."
            if origin
            else "Nothing serves yet. Mend the app, commit, and deploy again."
        )
        error.kind = "not_activated"
        raise
    token = secrets.token_hex(4)
    machine.arm(token, int(request.get("confirm_within", CONFIRM_WITHIN)))
    state.live, state.pending = target, Pending(token, origin)
    save(places, state)
    try:
        machine.point(target, origin.release if origin else "")
        problem = machine.ask_site(check, settings["app"]["tls"] != "off")
        if problem:
            raise HostError(f"through nginx: {problem}", detail=machine.journal(target.slot))
    except HostError as error:
        _go_back(places, machine, state)
        machine.disarm(token)
        error.summary = f"release {release} was rolled back: {error.summary}"
        error.kind = "rolled_back"
        raise
    return {
        "outcome": "active",
        "changed": True,
        "release": release,
        "previous": origin.release if origin else "",
        "token": token,
        "took": round(time.monotonic() - started, 2),
    }


def confirm(request: dict[str, Any], root: Path = Path("/"), machine: Machine | None = None) -> dict[str, Any]:
    """The controller saw the switch: it stands. request: app, token, by. Raises HostError when it was too late."""
    places = Places(request["app"], root)
    machine = machine or Machine(places)
    with locked(places, request.get("by", ""), "confirm"):
        state = load(places)
        if not state.pending or state.pending.token != request["token"] or not state.live:
            raise HostError(
                "this switch was undone before it was confirmed",
                hint="Look at `zarpar status`, then deploy again.",
                kind="rolled_back",
            )
        settings = settings_of(places, state.live.release)
        state.sequence += 1
        state.note(state.live.release, status="good", activated=state.sequence)
        origin, state.pending = state.pending.origin, None
        save(places, state)
        machine.disarm(request["token"])
        record(places, "activated", release=state.live.release, by=request.get("by", ""))
        if origin:
            machine.drain_later(origin.slot, settings["app"]["drain"])
        prune(places, state, settings["app"]["keep"])
        save(places, state)
    return {"outcome": "active", "changed": True, "release": state.live.release}


def rollback(request: dict[str, Any], root: Path = Path("/"), machine: Machine | None = None) -> dict[str, Any]:
    """Switch back to `to`, or to the newest good release before the live one, through the same gate."""
    places = Places(request["app"], root)
    machine = machine or Machine(places)
    with locked(places, request.get("by", ""), "rollback"):
        state = _settled(places, machine)
        target = request.get("to") or state.previous()
        if not target:
            raise HostError("there is no earlier good release to go back to", kind="unknown_release")
        left = state.live.release if state.live else ""
        answer = _switch(places, machine, state, target, settings_of(places, target), request)
        if left and left != target:
            state.note(left, status="bad")
            save(places, state)
    return answer


def expire(request: dict[str, Any], root: Path = Path("/"), machine: Machine | None = None) -> dict[str, Any]:
    """The dead-man timer: go back if this switch (request: app, token) is still unconfirmed."""
    places = Places(request["app"], root)
    machine = machine or Machine(places)
    with locked(places, "the dead-man timer", "expire", wait=120):
        state = load(places)
        if not state.pending or state.pending.token != request["token"]:
            return {"outcome": "unchanged", "changed": False}
        _go_back(places, machine, state)
    return {"outcome": "rolled_back", "changed": True}


def drain(request: dict[str, Any], root: Path = Path("/"), machine: Machine | None = None) -> dict[str, Any]:
    """Stop a slot (request: app, slot, seconds) that nginx no longer uses, when its last requests are done."""
    places = Places(request["app"], root)
    machine = machine or Machine(places)
    machine.wait_drained(request["slot"], float(request["seconds"]))
    with locked(places, "the drain", "drain", wait=120):
        state = load(places)
        kept = [live.slot for live in (state.live, state.pending.origin if state.pending else None) if live]
        if request["slot"] in kept:
            return {"outcome": "unchanged", "changed": False}
        machine.stop_slot(request["slot"])
    return {"outcome": "stopped", "changed": True}


def recover(_request: dict[str, Any], root: Path = Path("/")) -> dict[str, Any]:
    """Make every app agree with its state.json on one whole release; at boot, and by hand at any time."""
    from zarpar_host.files import Transaction  # only needed here

    Transaction().undo()
    outcomes = {}
    for places in all_apps(root):
        machine = Machine(places)
        with locked(places, "the host itself", "recover", wait=120):
            state = load(places)
            if state.pending:
                _forget_pending(places, state)
            machine.point(state.live, state.previous())
            if state.live:
                machine.start_later(state.live.slot)
            outcomes[places.app] = state.live.release if state.live else ""
    return {"apps": outcomes, "changed": False}


def _settled(places: Places, machine: Machine) -> State:
    """The state with no switch half done: an unconfirmed one goes back, and visitors reach what state.json says."""
    state = load(places)
    if state.pending:
        _go_back(places, machine, state)
    elif state.live:
        machine.point(state.live, state.previous())
    return state


def _go_back(places: Places, machine: Machine, state: State) -> None:
    """Undo an unconfirmed switch: the durable fact first, then the live link, then the new slot."""
    left = state.live
    _forget_pending(places, state)
    if state.live and not machine.slot_alive(state.live.slot):
        machine.start_slot(state.live)
    machine.point(state.live, state.previous())
    if left:
        machine.stop_slot(left.slot)


def _forget_pending(places: Places, state: State) -> None:
    left = state.live
    origin = state.pending.origin if state.pending else None
    state.live, state.pending = origin, None
    if left:
        state.note(left.release, status="bad")
    save(places, state)
    record(places, "rolled back", release=left.release if left else "", to=origin.release if origin else "")


def _mark_failed(places: Places, state: State, release: str, request: dict[str, Any], error: HostError) -> None:
    if state.releases.get(release, {}).get("status") != "good":
        state.note(release, status="bad")
        save(places, state)
    record(places, "not activated", release=release, by=request.get("by", ""), why=error.summary)


def _is_well(machine: Machine, live: Live, settings: dict[str, Any]) -> bool:
    """Whether the live release runs and answers visitors, so that there is nothing to do."""
    check = Check.of(settings["app"]["health"])
    return machine.slot_alive(live.slot) and not machine.ask_site(check, settings["app"]["tls"] != "off")

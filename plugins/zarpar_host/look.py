"""The verb `look`: is there anything to do on this host at all? Only reads, in one call, before any role runs.

A run with nothing to do is the most common one, and ends here: its roles and releases are not even started.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zarpar_host import apply, processes, switch
from zarpar_host.context import Context
from zarpar_host.errors import HostError
from zarpar_host.files import Transaction
from zarpar_host.machine import machine_for
from zarpar_host.releases import settings_of
from zarpar_host.state import Places, load


def look(request: dict[str, Any], root: Path = Path("/")) -> dict[str, Any]:
    """request: manifests (role -> items), releases (app -> release id), part (what the host is to run of the apps).

    Returns {differs: the first role with something to change (empty: none), releases: {app: {served, here}}}.
    What a role will fail at counts as a difference: the role itself tells it better.
    """
    found = {app: _release(Places(app, root), release, request["part"]) for app, release in request["releases"].items()}
    return {"differs": _differs(request["manifests"]), "releases": found, "changed": False}


def _differs(manifests: dict[str, list[dict[str, Any]]]) -> str:
    if Transaction().index.exists():  # a run was cut: the next `apply` puts its files back first
        return "a run that was cut"
    for role, items in manifests.items():
        context = Context(check=True, transaction=Transaction())
        for item in items:
            try:
                if apply.KINDS[apply.kind_of(item)](context, item):
                    return role
            except (HostError, OSError, KeyError, ValueError):
                return role
    return ""


def _release(places: Places, release: str, part: str) -> dict[str, bool]:
    """Whether a release is on this host, and whether it is the one that serves, well, with no switch open.

    Nor does one serve as it should whose host is to run another part of it from now on.
    """
    try:
        settings = settings_of(places, release)
        served = switch.serves(places, machine_for(places), load(places), release, settings)
        return {"here": True, "served": served and processes.part(places) == part}
    except HostError:
        return {"here": False, "served": False}

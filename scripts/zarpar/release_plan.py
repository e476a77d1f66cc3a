"""Which release of which app a run is about: settled once, so that a branch that moves meanwhile changes nothing."""

from __future__ import annotations

import getpass
import re
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zarpar import services, source
from zarpar.config import REF, App
from zarpar.errors import BadData


def selected(apps: Mapping[str, App], wanted: object) -> list[str]:
    """The names of the apps that the run is for: all, or those of `zarpar_apps` (a list, or "a,b")."""
    words = wanted if isinstance(wanted, list) else str(wanted or "").split(",")
    names = [str(word).strip() for word in words if str(word).strip()]
    for name in names:
        if name not in apps:
            raise BadData(f"zarpar_apps: there is no app {name[:40]!r}", hint=f"Known: {', '.join(apps)}")
    return names or list(apps)


def settle(apps: Mapping[str, App], task_vars: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """App name -> the commit, tree and release id to deploy. Raises BadData for a wrong ref or source."""
    ref = str(task_vars.get("zarpar_ref") or "")
    if ref and (not re.fullmatch(REF, ref) or ".." in ref):
        raise BadData(f"zarpar_ref: {ref[:60]!r} is not a commit, branch or tag")
    inventory = Path(str(task_vars["inventory_dir"]))
    plan = {}
    deploy = secrets.token_hex(6)
    for name in selected(apps, task_vars.get("zarpar_apps")):
        commit = source.resolve(name, apps[name], inventory, ref)
        plan[name] = {
            **source.as_facts(commit),
            "id": source.release_id(apps[name], commit, services.urls(name, apps[name], task_vars)),
            "by": operator(),
            "deploy": deploy,
        }
    return plan


def idle_workers(
    apps: Mapping[str, App], plan: Mapping[str, Mapping[str, Any]], task_vars: Mapping[str, Any]
) -> list[str]:
    """A warning that names the hosts of the group worker when no app has anything for them; known of all apps only."""
    idle = [host for host in services.app_hosts(task_vars) if services.part(host, task_vars) == "processes"]
    if not idle or set(plan) != set(apps) or any(one["processes"] or one["schedules"] for one in plan.values()):
        return []
    return [f"no app has a process or a schedule, so nothing will run on {', '.join(idle)} (group worker)"]


def web_order(well: Mapping[str, bool], task_vars: Mapping[str, Any]) -> list[str]:
    """The web hosts of those that are known, in the order to switch them. well: host -> whether it serves well now.

    Those that are not well come first: the last healthy one is never the first risked. Before all others come those
    that run processes while others do not, so that nobody sends these a task that they do not know yet.
    """
    part = {host: services.part(host, task_vars) for host in well}
    return sorted((host for host in well if part[host] != "processes"), key=lambda host: (part[host], well[host]))


def rollback_target(app: str, host: str, statuses: Mapping[str, Mapping[str, Any]]) -> str:
    """The newest release of an app that is good on every host and not live on this one.

    statuses: host -> what zarpar-host's `status` says. Raises BadData when there is none.
    """
    lists = {
        name: [
            entry["release"] for entry in status["apps"].get(app, {}).get("releases", []) if entry["status"] == "good"
        ]
        for name, status in statuses.items()
    }
    live = {name: (status["apps"].get(app, {}).get("live") or {}).get("release") for name, status in statuses.items()}
    for release in lists.get(host, []):
        if release != live[host] and all(release in its for its in lists.values()):
            return str(release)
    raise BadData(
        f"{app}: there is no earlier good release that all hosts have", hint="See which there are: zarpar releases ENV"
    )


def operator() -> str:
    """Who deploys, and from where: for the history and for those who must wait."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"

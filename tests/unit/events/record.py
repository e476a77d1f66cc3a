"""Records what ansible-runner tells of small runs on this machine, for the tests of story, ui and cli.

Run it again when Ansible or ansible-runner changes: .venv/bin/python tests/unit/events/record.py
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zarpar import plan, runner

HERE = Path(__file__).parent
KEPT = ("name", "task", "role", "host", "duration", "ignore_errors", "res", "processed", "changed", "failures", "dark")
RELEASE = {"release": "3f2a9c1d-a1b2c3", "commit": "3f2a9c1d00", "url": "https://notes.example.test/"}

# Stands in for Zarpar's own plugins: the task's result is what the task says.
PLUGIN = """
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        told = self._task.args
        return {**super().run(tmp, task_vars), **told["result"], **told.get(task_vars["inventory_hostname"], {})}
"""


def told(task: str, result: Mapping[str, Any], *, role: str = "", **by_host: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task that gives this result, or another one on some hosts."""
    return {"name": task, "told": {"result": result, **by_host}} | ({"role": role} if role else {})


def play(name: str, *tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a play of Zarpar's kind."""
    return {"name": name, "hosts": "all", "gather_facts": False, "any_errors_fatal": True, "tasks": [*tasks], **more}


def verb(name: str, outcome: str, seconds: float, **more: Any) -> dict[str, Any]:
    """Return the result of a release verb."""
    notes = {**RELEASE, "outcome": outcome, "seconds": seconds}
    changed = outcome not in ("unchanged", "would be released")
    return {"changed": changed, "zarpar": {"verb": name, "apps": {"notes": notes}}, **more}


def role(name: str, *items: str, **by_host: Mapping[str, Any]) -> dict[str, Any]:
    """Return the task of a role that changes these items."""
    result = {"changed": bool(items), "zarpar": {"role": name, "changed_items": list(items)}}
    return told(f"Apply the {name} manifest", result, role=name, **by_host)


WARNING = {"zarpar": {"apps": ["notes"], "warnings": ["notes: uncommitted changes are not part of the release"]}}
BAD_DATA = {
    "failed": True,
    "msg": "apps.notes.domain: unknown key\nKnown: domains, source\nDid you mean domains?",
    "zarpar": {"error": "bad_data", "hint": "Did you mean domains?"},
}
UNHEALTHY = verb("activate", "unhealthy", 31.0) | {
    "failed": True,
    "changed": False,
    "msg": "notes: not healthy after 30 s\nGET /health: 500\nTraceback: KeyError",
}
UNHEALTHY["zarpar"] |= {"error": "unhealthy", "hint": "zarpar-host logs notes"}
PREFLIGHT = play("Preflight", told("Check the inventory", WARNING) | {"run_once": True}, told("Check the host", {}))
PREPARE = play("Prepare", told("Prepare", verb("prepare", "prepared", 6.2), role="app_release"))
MIGRATE = play("Migrate", told("Migrate", verb("migrate", "migrated", 0.5), role="app_release") | {"run_once": True})
ACTIVATE = told("Activate", verb("activate", "active", 2.0), role="app_release")

SCENARIOS: dict[str, list[dict[str, Any]]] = {
    "released": [
        PREFLIGHT,
        play("Provision", role("base", "package curl", "file /etc/hosts"), role("nginx")),
        PREPARE,
        MIGRATE,
        play("Activate", ACTIVATE, serial=1),
    ],
    "nothing": [
        PREFLIGHT,
        play("Provision", role("base"), role("nginx")),
        play("Prepare", told("Prepare", verb("prepare", "unchanged", 0.1), role="app_release")),
        play("Migrate", told("Migrate", verb("migrate", "unchanged", 0.1), role="app_release") | {"run_once": True}),
        play("Activate", told("Activate", verb("activate", "unchanged", 0.1), role="app_release"), serial=1),
    ],
    "second_unhealthy": [
        PREPARE,
        play(
            "Activate", told("Activate", verb("activate", "active", 2.0), role="app_release", web2=UNHEALTHY), serial=1
        ),
    ],
    "first_unhealthy": [
        PREPARE,
        play(
            "Activate", told("Activate", verb("activate", "active", 2.0), role="app_release", web1=UNHEALTHY), serial=1
        ),
    ],
    "refused": [play("Preflight", told("Check the inventory", BAD_DATA) | {"run_once": True}), PREPARE],
    "unreachable": [
        play("Preflight", {"name": "Check the host", "ansible.builtin.ping": {}, "vars": {"ansible_connection": "ssh"}})
    ],
    "stopped": [
        play("Provision", role("base", "file /etc/motd", web2={"failed": True, "msg": "no room"})),
        play("Provision the web servers", role("nginx")),
    ],
    "hidden": [
        play(
            "Secrets",
            {"name": "Write", "no_log": True, "ansible.builtin.command": {"argv": ["echo", "CANARY"]}},
            {"name": "Fail", "no_log": True, "ansible.builtin.command": {"argv": ["sh", "-c", "echo CANARY; exit 3"]}},
        )
    ],
    "rescued": [
        play(
            "Try",
            {
                "name": "Block",
                "block": [told("Fails", {"failed": True, "msg": "at first"})],
                "rescue": [told("Saves", {})],
            },
        )
    ],
    "loop": [
        play("Loop", {"name": "Run", "ansible.builtin.command": {"argv": ["{{ item }}"]}, "loop": ["true", "false"]})
    ],
    "does_not_load": [play("Broken", {"name": "Odd", "no_such_module": {}})],
    "no_hosts": [play("Nobody", hosts="nobody")],
}


def record(scenario: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Run the plays on two names of this machine; return the events and, last, the return code."""
    (folder / "action_plugins").mkdir(exist_ok=True)
    (folder / "action_plugins" / "told.py").write_text(PLUGIN)
    (folder / "ansible.cfg").write_text("[defaults]\n")
    (folder / "hosts.ini").write_text("web1 ansible_host=web1.invalid\nweb2 ansible_host=web2.invalid\n")
    (folder / "site.yml").write_text(json.dumps([_with_roles(one, folder) for one in scenario]))
    target = plan.Environment("test", folder / "hosts.ini")
    planned = plan.playbook(folder, "site.yml", target, plan.Choices(), os.environ)
    argv = (*planned.argv[:-1], "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}", planned.argv[-1])
    events: list[dict[str, Any]] = []
    planned = plan.Plan(argv, planned.environment, planned.directory)
    done = runner.run(planned, lambda event: events.append(_trimmed(event, folder)))
    return [*events, {"return_code": done.return_code}]


def _with_roles(one: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Move the tasks that belong to a role into one."""
    tasks = []
    for number, task in enumerate(one["tasks"]):
        name = task.pop("role", "")
        if not name:
            tasks.append(task)
            continue
        path = folder / "roles" / name / "tasks" / f"{one['name']}{number}.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([task]))
        tasks.append({"name": name, "ansible.builtin.import_role": {"name": name, "tasks_from": path.stem}})
    return {**one, "tasks": tasks}


def _trimmed(event: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    data = {key: value for key, value in (event.get("event_data") or {}).items() if key in KEPT}
    if "duration" in data:
        data["duration"] = 0.5
    trimmed = {"event": event.get("event"), "stdout": event.get("stdout", ""), "event_data": data}
    text = json.dumps(trimmed).replace(str(folder), "/checkout").replace(sys.executable, "/usr/bin/python3")
    kept: dict[str, Any] = json.loads(text)
    return kept


def main() -> None:
    """Record every scenario."""
    for name, scenario in SCENARIOS.items():
        with tempfile.TemporaryDirectory() as folder:
            events = record(json.loads(json.dumps(scenario)), Path(folder))
        lines = ",\n".join(json.dumps(event, sort_keys=True) for event in events)
        (HERE / f"{name}.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()

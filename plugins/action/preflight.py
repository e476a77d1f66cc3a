"""Checks before anything is changed: `of: inventory` on the controller, then `of: host` on each host."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from zarpar import release_plan
from zarpar.actions import ROOT, HostFailure, ZarparAction
from zarpar.variables import RoleVariables

DISK_MB = 1024


class ActionModule(ZarparAction):
    """The task `preflight: {of: inventory | host}`."""

    def work(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Run one of the two checks. The result carries facts for the tasks that follow, and no secret."""
        if self._task.args.get("of") == "inventory":
            return self._inventory(task_vars)
        return self._host()

    def _inventory(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """All data is right, for every host; the commits to release are settled for the whole run."""
        RoleVariables(ROOT / "roles").check(task_vars, self.reference)
        apps = self.apps(task_vars)
        for host in task_vars["groups"].get("web", []):
            self.apps_for_host({**task_vars, "inventory_hostname": host})
        plan = release_plan.settle(apps, task_vars)
        warnings = [
            f"{name}: uncommitted changes in {entry['folder']} are not part of the release"
            for name, entry in plan.items()
            if entry["dirty"]
        ]
        return {
            "ansible_facts": {"zarpar_releases": plan},
            "zarpar": {"apps": sorted(plan), "warnings": warnings},
            **({"warnings": warnings} if warnings else {}),
        }

    def _host(self) -> dict[str, Any]:
        """The host can be reached, is a system that we know, lets us be root, and has room."""
        facts = self.call("facts", {})
        if facts["disk_free_mb"] < DISK_MB:
            raise HostFailure(
                f"only {facts['disk_free_mb']} MB are free on /; {DISK_MB} MB are needed",
                hint="Free some room, for example: journalctl --vacuum-size=100M; apt-get clean",
                kind="disk",
            )
        return {"ansible_facts": {"zarpar_facts": facts}, "zarpar": {"facts": facts}}

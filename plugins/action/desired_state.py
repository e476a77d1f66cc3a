"""Brings a host to a role's manifest in one round trip. How to write a manifest: docs/MANIFEST.md."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from zarpar import manifest
from zarpar.actions import ZarparAction


class ActionModule(ZarparAction):
    """The task `desired_state: {manifest: manifest.yml}` of a role."""

    def work(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Render the manifest, have it applied, and return Ansible's result with a diff per item."""
        name = self._task.args.get("manifest", "manifest.yml")
        folder = self.role_folder()
        available = task_vars | self.scope(task_vars, self.host_facts(task_vars))
        items = manifest.items(self, folder, available, str(name))
        ahead = task_vars.get("ansible_facts", {}).get("zarpar_ahead", [])
        answer = self.call("apply", {"check": self._task.check_mode, "items": items, "ahead": ahead})
        changed = [entry for entry in answer["items"] if entry["changed"]]
        return {
            "changed": answer["changed"],
            "diff": [_diff(entry) for entry in changed],
            "ansible_facts": {"zarpar_facts": answer["facts"]},
            "zarpar": {"role": folder.name, "changed_items": [entry["item"] for entry in changed]},
        }


def _diff(entry: dict[str, Any]) -> dict[str, str]:
    diff = entry.get("diff")
    name = str(entry["item"])
    if diff is None:
        return {"prepared": f"{name}: changed\n"}
    return {"before_header": name, "after_header": name, "before": diff["before"], "after": diff["after"]}

"""Brings a host to a role's manifest in one round trip. How to write a manifest: docs/MANIFEST.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from zarpar.actions import HostFailure, ZarparAction, plain

COMMON = {"when", "each", "as"}
KEYS: dict[str, set[str]] = {
    "absent": set(),
    "absent_others": {"keep"},
    "certificate": {"domains", "email", "server", "ca_bundle", "webroot"},
    "command": {"creates", "unless", "on_change_of", "timeout", "environment"},
    "directory": {"owner", "group", "mode"},
    "file": {"template", "content", "owner", "group", "mode", "secret", "create_only"},
    "group": {"system"},
    "link": {"to"},
    "packages": set(),
    "placeholder_certificate": {"domain"},
    "postgres": set(),
    "unit": {"enabled", "state", "reload_on", "restart_on"},
    "user": {"group", "groups", "home", "shell", "system"},
    "validate": set(),
    "wait_for_boot": set(),
}


class ActionModule(ZarparAction):
    """The task `desired_state: {manifest: manifest.yml}` of a role."""

    def work(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Render the manifest, have it applied, and return Ansible's result with a diff per item."""
        name = self._task.args.get("manifest", "manifest.yml")
        folder = self.role_folder()
        facts = self.host_facts(task_vars)
        available = {**task_vars, "apps": self.apps_for_host(task_vars), "host": facts}
        items = list(self._items(folder, str(name), available))
        answer = self.call("apply", {"check": self._task.check_mode, "items": items})
        changed = [entry for entry in answer["items"] if entry["changed"]]
        return {
            "changed": answer["changed"],
            "diff": [_diff(entry) for entry in changed],
            "ansible_facts": {"zarpar_facts": answer["facts"]},
            "zarpar": {"role": folder.name, "changed_items": [entry["item"] for entry in changed]},
        }

    def _items(self, folder: Path, name: str, available: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for entry in self._loader.load_from_file(str(folder / name), trusted_as_template=True):
            kind = next(iter(entry))
            unknown = set(entry) - {kind} - KEYS.get(kind, set()) - COMMON
            if kind not in KEYS or unknown:
                wrong = ", ".join(sorted(map(str, unknown))) or kind
                raise HostFailure(f"{folder.name}/{name}: unknown: {wrong} (item {kind})", kind="bad_manifest")
            values = self.render(entry["each"], available) if "each" in entry else [None]
            for value in values:
                scope = {**available, str(entry.get("as", "item")): value} if "each" in entry else available
                if "when" in entry and not self._holds(entry["when"], scope):
                    continue
                yield self._item(folder, {key: entry[key] for key in entry if key not in COMMON}, scope)

    def _holds(self, condition: Any, scope: dict[str, Any]) -> bool:
        return bool(self._templar.copy_with_new_env(available_variables=scope).evaluate_conditional(condition))

    def _item(self, folder: Path, entry: dict[str, Any], scope: dict[str, Any]) -> dict[str, Any]:
        item: dict[str, Any] = plain(self.render(entry, scope))
        template = item.pop("template", None)
        if template is not None:
            item["content"] = self.render_file(folder / "templates" / template, scope)
        return item


def _diff(entry: dict[str, Any]) -> dict[str, str]:
    diff = entry.get("diff")
    name = str(entry["item"])
    if diff is None:
        return {"prepared": f"{name}: changed\n"}
    return {"before_header": name, "after_header": name, "before": diff["before"], "after": diff["after"]}

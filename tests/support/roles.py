"""A role's manifest as the action plugin renders it, for a host of an inventory that exists in a test only."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar

from zarpar import manifest
from zarpar.actions import ROOT, ZarparAction
from zarpar.config import load_apps

FACTS = {"memory_mb": 4096, "swap_mb": 0, "container": False, "version": 13, "cpus": 2, "postgres_version": "17"}


@functools.cache
def _load_plugins() -> None:
    """As ansible-playbook does when it starts; a second time would be warned of."""
    init_plugin_loader()


class _Action(ZarparAction):
    def apps(self, task_vars: Mapping[str, Any]) -> dict[str, Any]:
        return load_apps(task_vars["apps"])


def inventory(host: str, apps: Mapping[str, Any], addresses: Mapping[str, str], **groups: list[str]) -> dict[str, Any]:
    """The variables of a host's task. addresses: of every host of the inventory, by their names."""
    return {
        "inventory_hostname": host,
        "groups": groups,
        "group_names": [name for name, members in groups.items() if host in members],
        "hostvars": {name: {"ansible_host": address} for name, address in addresses.items()},
        "ansible_host": addresses[host],
        "apps": apps,
    }


def app(**keys: Any) -> dict[str, Any]:
    """An app of an inventory; its domain is of no importance."""
    return {"domains": ["shop.example.com"], "source": {"path": "."}, **keys}


def render(role: str, task_vars: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items that zarpar-host would get."""
    _load_plugins()
    loader = DataLoader()
    templar = Templar(loader=loader, variables={})
    action = _Action(None, None, None, loader, templar, None)
    folder = Path(ROOT) / "roles" / role
    available = manifest.role_variables(folder, dict(task_vars))
    return manifest.items(action, folder, available | action.scope(task_vars, FACTS))


def file(items: list[dict[str, Any]], path: str) -> dict[str, Any]:
    """The item of a file."""
    (found,) = [item for item in items if item.get("file") == path]
    return found

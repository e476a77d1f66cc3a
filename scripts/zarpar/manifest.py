"""A role's manifest as the items that zarpar-host applies. How to write one: docs/MANIFEST.md."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.parsing.dataloader import DataLoader

from zarpar.errors import ZarparError

if TYPE_CHECKING:
    from zarpar.actions import ZarparAction

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


class BadManifest(ZarparError):
    """A manifest holds what no item has."""

    kind = "bad_manifest"


def items(
    action: ZarparAction, role: Path, available: Mapping[str, Any], name: str = "manifest.yml"
) -> list[dict[str, Any]]:
    """The manifest of a role (its folder), rendered with these variables. Raises BadManifest for an unknown key."""
    return list(_items(action, role, dict(available), name))


def role_variables(role: Path, task_vars: Mapping[str, Any]) -> dict[str, Any]:
    """Variables as a role's own tasks see them: what is set in the inventory beats the role's defaults."""
    own: dict[str, Any] = {}
    for part in ("defaults", "vars"):
        path = role / part / "main.yml"
        if path.is_file():
            own |= read(path) or {}
    return {**own, **task_vars}


@functools.cache
def read(path: Path) -> Any:
    """A file of a role; its texts are trusted as templates. Nobody changes what is returned."""
    return DataLoader().load_from_file(str(path), cache="none", trusted_as_template=True)


def read_all(roles: Path) -> None:
    """Read every role's files now: processes that are forked later need not, one for each task and host."""
    for part in ("defaults/main.yml", "vars/main.yml", "manifest.yml"):
        for path in roles.glob(f"*/{part}"):
            read(path)


def beginning(rendered: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The files and then the packages with which rendered items begin; none when these need something else before.

    They become facts, which Ansible shows: a file with a secret is none of them.
    """
    for number, item in enumerate(rendered):
        kind = next(iter(item))
        if kind == "packages":
            return list(rendered[: number + 1])
        if kind not in ("directory", "file") or item.get("secret"):
            break
    return []


def _items(action: ZarparAction, role: Path, available: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    for entry in read(role / name):
        kind = next(iter(entry))
        unknown = set(entry) - {kind} - KEYS.get(kind, set()) - COMMON
        if kind not in KEYS or unknown:
            wrong = ", ".join(sorted(map(str, unknown))) or kind
            raise BadManifest(f"{role.name}/{name}: unknown: {wrong} (item {kind})")
        values = action.render(entry["each"], available) if "each" in entry else [None]
        for value in values:
            scope = {**available, str(entry.get("as", "item")): value} if "each" in entry else available
            if "when" in entry and not action.holds(entry["when"], scope):
                continue
            yield _item(action, role, {key: entry[key] for key in entry if key not in COMMON}, scope)


def _item(action: ZarparAction, role: Path, entry: dict[str, Any], scope: dict[str, Any]) -> dict[str, Any]:
    item: dict[str, Any] = plain(action.render(entry, scope))
    template = item.pop("template", None)
    if template is not None:
        item["content"] = action.render_file(role / "templates" / template, scope)
    return item


def plain(value: Any) -> Any:
    """A copy without Ansible's tags: what JSON can carry."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, float) else str(value)

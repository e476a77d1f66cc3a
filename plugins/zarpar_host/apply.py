"""The verb `apply`: brings a host to a role's manifest, in order, as one transaction.

Each kind of item is one function in `items`, `packages`, `certificates` or `postgres`; it returns whether it
changed (or, in check mode, would change) something. Files are put back when anything after them fails.
"""

from __future__ import annotations

from typing import Any

from zarpar_host import certificates, facts, items, packages, postgres
from zarpar_host.context import Context, Handler, Item
from zarpar_host.errors import HostError
from zarpar_host.files import Transaction

KINDS: dict[str, Handler] = {
    "absent": items.absent,
    "absent_others": items.absent_others,
    "certificate": certificates.certificate,
    "command": items.command,
    "directory": items.directory,
    "file": items.file,
    "group": items.group,
    "link": items.link,
    "packages": packages.packages,
    "placeholder_certificate": certificates.placeholder,
    "postgres": postgres.postgres,
    "unit": items.unit,
    "user": items.user,
    "validate": items.validate,
    "wait_for_boot": packages.wait_for_boot,
}


def kind_of(item: Item) -> str:
    """The kind of an item is its first key."""
    kind = next(iter(item), "")
    if kind not in KINDS:
        raise HostError(f"unknown kind of manifest item: {kind!r}", hint=f"Known: {', '.join(KINDS)}.")
    return kind


def apply(request: dict[str, Any]) -> dict[str, Any]:
    """Apply request["items"]; request["check"] only looks.

    Returns {changed, items: [{item, changed, diff?}]}. Raises HostError, after undoing its file changes.
    """
    context = Context(bool(request.get("check")), Transaction(), list(request.get("ahead") or []))
    if not context.check:
        context.transaction.undo()
    results: list[dict[str, Any]] = []
    item: Item = {}
    try:
        for item in request["items"]:
            changed = KINDS[kind_of(item)](context, item)
            result: dict[str, Any] = {"item": _name(item), "changed": changed}
            if context.diff is not None:
                result["diff"], context.diff = context.diff, None
            results.append(result)
    except HostError as error:
        _take_back(context, error)
        error.summary = f"{_name(item)}: {error.summary}"
        raise
    except (OSError, KeyError, ValueError) as error:
        failure = HostError(f"{_name(item)}: {type(error).__name__}: {error}")
        _take_back(context, failure)
        raise failure from error
    if not context.check:
        context.transaction.commit()
    return {
        "changed": any(result["changed"] for result in results),
        "items": results,
        "facts": facts.gather(),
    }


def _name(item: Item) -> str:
    """How an item is called in results and messages: its kind and its thing, never a secret in it."""
    kind = next(iter(item), "?")
    value = item.get(kind)
    words = [str(entry["name"]) if isinstance(entry, dict) else str(entry) for entry in _as_list(value)]
    return " ".join([kind, *words])


def _as_list(value: object) -> list[Any]:
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, str) else []


def _take_back(context: Context, error: HostError) -> None:
    """Undo the file changes, and let units that had taken them up take up the old ones."""
    if context.check:
        return
    restored = context.transaction.undo()
    if restored:
        error.detail = f"{error.detail}\nPut back as before: {', '.join(sorted(restored))}".strip()
    items.settle_units(context.touched_units)

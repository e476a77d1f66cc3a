"""The names in an app's environment, and where their values come from; never a value. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

ZARPARS = ("ZARPAR_APP", "ZARPAR_RELEASE", "ZARPAR_RELEASE_ID", "ZARPAR_SHARED", "LANG", "PYTHONUNBUFFERED")
REFERENCE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


def names(app: object) -> dict[str, str]:
    """NAME to "apps.yml", the variable that it refers to, or "Zarpar", of an app as the inventory says it."""
    said = app if isinstance(app, Mapping) else {}
    env = said.get("env")
    found = {str(name): _source(value) for name, value in (env.items() if isinstance(env, Mapping) else ())}
    given = [
        *ZARPARS,
        *(["DATABASE_URL"] if said.get("database") else []),
        *(["REDIS_URL"] if said.get("redis") else []),
        *(["UPLOADS_DIR"] if said.get("uploads") else []),
    ]
    return dict(sorted({**dict.fromkeys(given, "Zarpar"), **found}.items()))


def vault_uses(apps: Mapping[str, Any]) -> dict[str, list[str]]:
    """Variable to the places in `apps` that refer to it."""
    found: dict[str, list[str]] = {}
    for path, value in _texts("apps", apps):
        match = REFERENCE.fullmatch(value)
        if match:
            found.setdefault(match.group(1), []).append(path)
    return dict(sorted(found.items()))


def _source(value: object) -> str:
    match = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if match:
        return match.group(1)
    return "apps.yml, encrypted" if type(value).__name__ == "EncryptedString" else "apps.yml"


def _texts(path: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _texts(f"{path}.{key}", entry)
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _texts(f"{path}[{index}]", entry)
    elif isinstance(value, str):
        yield path, value

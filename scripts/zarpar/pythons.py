"""Which Python an app asks for, from its own files, and which one a host gives it. Pure."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "plugins"))

from zarpar.errors import BadData
from zarpar_host.versions import satisfies

# What an app's tree may say, the first that does counts.
FILES = (".python-version", "runtime.txt", "Pipfile", "pyproject.toml")
# That uv has, the newest first; but the one that many packages have no wheels for yet comes last.
KNOWN = ("3.14", "3.13", "3.12", "3.11", "3.10", "3.9", "3.15")
NAMED = re.compile(r"(?:c?python-?)?(3\.\d{1,2})(\.\d{1,2})?", re.IGNORECASE)
NEWEST_PATCH = ".999"  # uv gives the newest patch of a version, whichever that is


@dataclass(frozen=True)
class Wish:
    """version: one that is named ("3.12"; with a patch only where apps.yml names it), else empty.

    requires: a range that any Python may meet (requires-python); note: what a person ought to know.
    """

    version: str = ""
    requires: str = ""
    note: str = ""


def wish(named: str, files: Mapping[str, str]) -> Wish:
    """What an app asks for: `apps.<name>.python`, else the first of FILES (name to text) that says something."""
    if named:
        return Wish(named)
    notes = []
    for name in (".python-version", "runtime.txt"):
        line = next(
            (line.strip() for line in files.get(name, "").splitlines() if line.strip()[:1] not in ("", "#")), ""
        )
        found = NAMED.fullmatch(line)
        if found:
            return Wish(found.group(1), note=_patch_note(name, found))
        if line:
            notes.append(f"{name}: {line[:40]!r} names no Python that can be installed; it is passed over")
    pipfile = _table(files.get("Pipfile", ""), "requires")
    found = NAMED.fullmatch(str(pipfile.get("python_full_version") or pipfile.get("python_version") or ""))
    if found:
        return Wish(found.group(1), note=_patch_note("Pipfile", found))
    text = files.get("pyproject.toml", "")
    poetry = _table(text, "tool", "poetry", "dependencies").get("python")
    requires = str(_table(text, "project").get("requires-python") or poetry or "")
    try:
        satisfies("3.13", requires)
    except ValueError:
        notes.append(f"pyproject.toml: the Python {requires[:40]!r} is not understood; it is passed over")
        requires = ""
    return Wish(requires=requires, note="; ".join(notes))


def _patch_note(name: str, found: re.Match[str]) -> str:
    version, patch = found.groups()
    if not patch:
        return ""
    return (
        f"{name} asks for Python {version}{patch}: {version} with its newest patch is used;"
        f' exactly that one by python: "{version}{patch}"'
    )


def for_host(app: str, version: str, requires: str, host: Mapping[str, Any]) -> str:
    """The version that uv must give an app on a host; empty where the host's own Python is right.

    host: its facts, python ("3.13") and python_full ("3.13.5"). Raises BadData when no known Python will do.
    """
    if version:
        return "" if version in (host["python"], host["python_full"]) else version
    if not requires or satisfies(str(host["python_full"]), requires):
        return ""
    for known in KNOWN:
        if satisfies(known + NEWEST_PATCH, requires):
            return known
    raise BadData(
        f"apps.{app}: no known Python is {requires[:60]!r} (requires-python)",
        hint=f'Known: {", ".join(KNOWN)}. Name another with python: "3.x".',
    )


def settled(
    apps: list[dict[str, Any]], plan: Mapping[str, Mapping[str, Any]], host: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Apps as templates get them, with `python` as uv must give it on a host; plan: what their releases ask for."""
    found = []
    for app in apps:
        its = plan.get(app["name"]) or {"python": app["python"], "requires": ""}
        python = for_host(app["name"], str(its["python"]), str(its["requires"]), host)
        found.append({**app, "python": python})
    return found


def _table(text: str, *names: str) -> dict[str, Any]:
    """A table of a TOML file; empty where there is none. What is wrong with the file, the build tells."""
    try:
        found: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}

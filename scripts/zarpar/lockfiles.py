"""What an app's checkout has to say which versions are installed, by the rules of the host. Pure."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "plugins"))

from zarpar_host import locks

NAMES = (*locks.ORDER, "Pipfile")


def note(files: Mapping[str, str]) -> str:
    """What a person ought to know when versions are not locked; empty when they are. files: name to text.

    Only the text of requirements.txt is looked at.
    """
    name = locks.chosen(set(files))
    if name == "pyproject.toml":
        tool = "poetry lock" if "[tool.poetry.dependencies]" in files[name] else "uv lock"
        return f"no lock file, so two releases may get different versions: run `{tool}` and commit what it writes"
    if name == "requirements.txt" and not _pinned(files[name]):
        return (
            "requirements.txt does not pin every version, so two releases may differ: move it to requirements.in and"
            " run `uv pip compile --generate-hashes requirements.in -o requirements.txt`"
        )
    if not name and "Pipfile" in files:
        return "Pipfile without its lock cannot be installed: run `pipenv lock` and commit Pipfile.lock"
    return "" if name else "no dependencies are declared: write a requirements.txt, or use uv (uv init, uv add)"


def _pinned(text: str) -> bool:
    """Whether each line of a requirements file pins its version; options, includes and addresses pass."""
    lines = (line.split("#")[0].strip() for line in text.replace("\\\n", " ").splitlines())
    return all("==" in line or " @ " in line or line[0] in "-./" for line in lines if line)

"""Virtual environments: built once for a set of locked dependencies and a Python, shared by releases, never changed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

from zarpar_host.errors import HostError
from zarpar_host.files import write_atomic
from zarpar_host.run import run
from zarpar_host.state import Places

UV = "/usr/local/bin/uv"
SYSTEM_PYTHON = "/usr/bin/python3"
PYTHONS = "/opt/zarpar/python"
BUILD_LIMIT = 1800
COMPLETE = ".zarpar-complete"


def key_of(tree: Path, python: str, tree_id: str) -> str:
    """The name of the environment that a source tree needs: a hash of its locked dependencies and the Python.

    A tree that is itself an installable package is part of its environment, so its own hash counts too.
    """
    digest = hashlib.sha256(f"1\n{python}\n{os.uname().machine}\n".encode())
    for name in ("uv.lock", "requirements.txt", "pyproject.toml", ".python-version"):
        path = tree / name
        if path.is_file():
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    if _is_package(tree):
        digest.update(tree_id.encode())
    return digest.hexdigest()[:16]


def _is_package(tree: Path) -> bool:
    path = tree / "pyproject.toml"
    if not path.is_file():
        return False
    try:
        project = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HostError(f"pyproject.toml cannot be read: {error}", kind="build") from error
    wanted = project.get("tool", {}).get("uv", {}).get("package")
    return bool(wanted) if wanted is not None else "build-system" in project


def ensure(places: Places, tree: Path, python: str, key: str, say: Callable[[str], None]) -> Path:
    """The environment `key`, built when it is not there whole. Raises HostError with uv's words."""
    venv = places.home / "venvs" / key
    if (venv / COMPLETE).exists():
        return venv
    if venv.exists():
        shutil.rmtree(venv)
    venv.parent.mkdir(mode=0o750, exist_ok=True)
    venv.mkdir(mode=0o750)
    shutil.chown(venv, places.app, places.app)
    try:
        for argv in _commands(tree, venv, python):
            _uv(places, tree, venv, argv)
        if not (venv / "bin" / "gunicorn").exists():
            raise HostError(
                "gunicorn is not among the app's dependencies",
                hint="Add it where you declare them (uv add gunicorn), commit, and deploy again.",
                kind="build",
            )
        own(venv, places.app)
        os.sync()
        write_atomic(venv / COMPLETE, b"", mode=0o644)
    except HostError:
        shutil.rmtree(venv, ignore_errors=True)
        raise
    say(f"built the environment {key}")
    return venv


def _commands(tree: Path, venv: Path, python: str) -> list[list[str]]:
    """uv's argument lists for what the tree declares: uv.lock, else requirements.txt, else pyproject.toml."""
    interpreter = python or SYSTEM_PYTHON
    create = ["venv", "--no-project", "--clear", "--python", interpreter, str(venv)]
    into = ["pip", "install", "--compile-bytecode", "--python", str(venv / "bin/python")]
    package = _is_package(tree)
    if (tree / "uv.lock").is_file():
        project = ["--no-editable"] if package else ["--no-install-project"]
        sync = ["sync", "--locked", "--no-dev", *project, "--compile-bytecode", "--python", interpreter]
        return [[*sync, "--project", str(tree)]]
    if (tree / "requirements.txt").is_file():
        hashed = re.search(r"--hash[= ]sha256:", (tree / "requirements.txt").read_text(errors="replace"))
        strict = ["--require-hashes"] if hashed else []
        return [create, [*into, *strict, "-r", str(tree / "requirements.txt")]]
    if (tree / "pyproject.toml").is_file():
        return [create, [*into, str(tree)] if package else [*into, "-r", str(tree / "pyproject.toml")]]
    raise HostError(
        "the app declares no dependencies: there is no uv.lock, requirements.txt or pyproject.toml",
        hint="Run `uv init` and `uv add flask gunicorn` (or write a requirements.txt), commit, and deploy again.",
        kind="build",
    )


def _uv(places: Places, tree: Path, venv: Path, argv: list[str]) -> None:
    """Run uv as the app's user, which may write only the environment being built and its cache."""
    cache = places.home / "cache"
    environment = {
        "HOME": str(cache),
        "UV_CACHE_DIR": str(cache / "uv"),
        "UV_PROJECT_ENVIRONMENT": str(venv),
        "UV_PYTHON_INSTALL_DIR": PYTHONS,
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_LINK_MODE": "hardlink",
        "UV_NO_PROGRESS": "1",
        "NO_COLOR": "1",
        **_uv_settings(),
    }
    done = run([UV, *argv], user=places.app, cwd=tree, env=environment, timeout=BUILD_LIMIT, check=False)
    for lock in (cache / "uv").rglob("*.lock"):
        lock.chmod(0o600)  # uv makes them writable for everybody
    if done.code != 0:
        raise HostError("the app's dependencies could not be installed", detail=done.tail, kind="build")


def _uv_settings(path: Path = Path("/etc/zarpar/uv.env")) -> dict[str, str]:
    """Index and mirror settings that role python wrote, NAME=value a line."""
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def own(tree: Path, group: str) -> None:
    """Give a finished tree to root, readable by the app's group and writable by nobody else. Links are kept."""
    import grp  # only needed here

    gid = grp.getgrnam(group).gr_gid
    for folder, folders, names in os.walk(tree):
        os.chown(folder, 0, gid)
        Path(folder).chmod(0o750)
        for name in [*folders, *names]:
            path = Path(folder) / name
            if path.is_symlink():
                os.chown(path, 0, gid, follow_symlinks=False)
            elif path.is_file():
                os.chown(path, 0, gid)
                path.chmod(0o750 if path.stat().st_mode & 0o100 else 0o640)

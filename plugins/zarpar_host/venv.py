"""Virtual environments: built once for a set of locked dependencies and a Python, shared by releases, never changed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from zarpar_host import hints, locks
from zarpar_host.errors import HostError
from zarpar_host.files import write_atomic
from zarpar_host.run import run
from zarpar_host.state import Places

UV = "/usr/local/bin/uv"
SYSTEM_PYTHON = "/usr/bin/python3"
PYTHONS = "/opt/zarpar/python"
BUILD_LIMIT = 1800
COMPLETE = ".zarpar-complete"
UVICORN = ("uvicorn.workers.UvicornWorker", "uvicorn_worker.UvicornWorker")
GRANIAN = "granian:"  # how a worker class begins that is none of gunicorn's
GRANIAN_HASHES = (  # for CPython 3.10 to 3.14, on x86_64 and aarch64
    "e8ac438c2924c682641bc17d00838a8b5dcf80c64ab2fd7342b282f7c5e9fcb3",
    "c7386ebbf48cab3ca7ae90b0946364fd7bf4d6ef34cf2146a4c0163f56fee323",
    "4f14537401a6ec08957912ad88ae20a1e9ede2d6ef574b9e099e6da54c4a61b6",
    "c0762c95e08917530252b5d3367c51dcabe136d887cd98810ae83eaddadebb1b",
    "293355ba37e21a8b337b521399d94c1a94b730337c8ee1f476894cdde642eb00",
    "ae030ef499b776530e3144d521b47110093a20406dcec71da69204f7e78a6430",
    "d94228d8cae7192c0706429a8d5fb4a8e5a01a3caa6694fb0b1313ed7d450aa7",
    "44b0443bbc3c335422a608668a3bd6a204ede521635948cd52ddf1ddbb8ccaf6",
    "179563932f7a30f05b5b8bc80fe9c6f7e06e47a8bf3e3d81a3816453973cfab9",
    "212b5c48109dcf8a67264e9571300cf849d9b058d1150ee8b1ad67279a8bf13f",
)
# What an app needs to be served here, when it does not bring it itself: module, requirement.
SERVERS = {
    "gunicorn": ("gunicorn==27.0.1 --hash=sha256:378b26b9a38adcf4592f28828233c1716acc55e833ea06bf48719782efaa0d10"),
    "uvicorn": ("uvicorn==0.54.0 --hash=sha256:505bdb0f318731d45f1f712071fc781a8981f6847a31c902c9f5e652d4f67faf"),
    "uvicorn_worker": (
        "uvicorn-worker==0.4.0 --hash=sha256:e2ed952cef976f5e9e429d7269640bbcafbd36c80aa80f1003c8c77a6797abde"
    ),
    "click": ("click==8.5.1 --hash=sha256:8bb5376d2006950386f8c6427613334a2acadc5f559cb80e638d00b4df957e37"),
    "typing_extensions.py": (
        "typing-extensions==4.15.0 --hash=sha256:f0fa19c6845758ab08074a0cfa8b7aecb71c999ca73d62883bc25cc018c4e548"
    ),
    "granian": " ".join(["granian==2.8.7", *(f"--hash=sha256:{each}" for each in GRANIAN_HASHES)]),
    "h11": ("h11==0.16.0 --hash=sha256:63cf8bbe7522de3bf65932fda1d9c2772064ffb3dae62d55932da54b31cb6c86"),
}
# Prints the values of PEP 508's names, for the Python that runs it.
MARKERS = """
import json, os, platform, sys
v = sys.implementation.version
n = "%d.%d.%d" % v[:3] + ("" if v[3] == "final" else v[3][0] + str(v[4]))
print(json.dumps({"python_version": ".".join(platform.python_version_tuple()[:2]),
"python_full_version": platform.python_version(), "implementation_name": sys.implementation.name,
"implementation_version": n, "os_name": os.name, "platform_machine": platform.machine(),
"platform_python_implementation": platform.python_implementation(), "platform_release": platform.release(),
"platform_system": platform.system(), "platform_version": platform.version(), "sys_platform": sys.platform}))
"""


def key_of(tree: Path, python: str, tree_id: str, worker_class: str) -> str:
    """The name of the environment that a source tree needs: a hash of its locked dependencies and the Python.

    Where code of the tree itself is installed, the tree's own hash counts too. `python` empty is the system's.
    """
    version = python or f"{sys.version_info.major}.{sys.version_info.minor} of the system"
    asgi = worker_class in UVICORN
    digest = hashlib.sha256(f"2\n{version}\n{os.uname().machine}\n{asgi}\n".encode())
    if worker_class.startswith(GRANIAN):
        digest.update(GRANIAN.encode())
    for path in locks.files(tree.resolve()):
        digest.update(path.relative_to(tree.resolve()).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    if locks.has_local_code(tree):
        digest.update(tree_id.encode())
    return digest.hexdigest()[:16]


def ensure(places: Places, tree: Path, python: str, key: str, worker_class: str, say: Callable[[str], None]) -> Path:
    """The environment `key`, built when it is not there whole; `say` gets what a person ought to know.

    Raises HostError with uv's words, and with the Debian package that is missing where they tell it.
    """
    venv = places.home / "venvs" / key
    if (venv / COMPLETE).exists():
        return venv
    if venv.exists():
        shutil.rmtree(venv)
    venv.parent.mkdir(mode=0o750, exist_ok=True)
    venv.mkdir(mode=0o750)
    shutil.chown(venv, places.app, places.app)
    try:
        _install(places, tree, venv, python)
        _serve(places, tree, venv, worker_class, say)
        own(venv, places.app)
        os.sync()
        write_atomic(venv / COMPLETE, b"", mode=0o644)
    except HostError:
        shutil.rmtree(venv, ignore_errors=True)
        raise
    return venv


def _install(places: Places, tree: Path, venv: Path, python: str) -> None:
    """Make the environment and put into it what the tree declares; see locks.ORDER for what counts."""
    kind = locks.of_tree(tree)
    if not kind:
        raise _nothing_declared(tree)
    interpreter = python or SYSTEM_PYTHON
    if kind == "uv.lock":
        project = [] if locks.is_package(tree) else ["--no-install-project"]
        sync = [
            "sync",
            "--locked",
            "--no-dev",
            "--no-editable",
            *project,
            "--compile-bytecode",
            "--python",
            interpreter,
        ]
        _uv(places, tree, venv, [*sync, "--project", str(tree)])
        return
    _uv(places, tree, venv, ["venv", "--no-project", "--clear", "--python", interpreter, str(venv)])
    if kind == "requirements.txt":
        texts = [path.read_text(errors="replace") for path in locks.requirement_files(tree / kind)]
        strict = ["--require-hashes"] if any("--hash=" in text or "--hash " in text for text in texts) else []
        _pip(places, tree, venv, ["--no-editable", *strict, "-r", str(tree / kind)])
    elif kind == "pyproject.toml":
        _pip(places, tree, venv, [str(tree)] if locks.is_package(tree) else ["-r", str(tree / kind)])
    else:
        reader = locks.poetry if kind == "poetry.lock" else locks.pipfile
        locked = reader(tree, _markers(places, venv))
        # each line has its hash, so it does not matter which index has it
        strict = ["--require-hashes", "--index-strategy=unsafe-best-match"] if locked.hashed else []
        if locked.lines:
            _pip(places, tree, venv, ["--no-deps", *strict, "-r", "-"], locked.text)
        if locks.is_package(tree):
            _pip(places, tree, venv, ["--no-deps", str(tree)])


def _nothing_declared(tree: Path) -> HostError:
    if (tree / "Pipfile").is_file():
        return HostError(
            "the app has a Pipfile and no Pipfile.lock",
            hint="Run `pipenv lock`, commit Pipfile.lock, and deploy again.",
            kind="build",
        )
    return HostError(
        f"the app declares no dependencies: there is none of {', '.join(locks.ORDER)}",
        hint="Run `uv init` and `uv add flask gunicorn` (or write a requirements.txt), commit, and deploy again.",
        kind="build",
    )


def _markers(places: Places, venv: Path) -> dict[str, str]:
    done = run([str(venv / "bin/python"), "-I", "-S", "-c", MARKERS], user=places.app, cwd="/")
    return {str(name): str(value) for name, value in json.loads(done.out).items()}


def _serve(places: Places, tree: Path, venv: Path, worker_class: str, say: Callable[[str], None]) -> None:
    """Add what serves the app where its own dependencies lack it: gunicorn, and uvicorn for an ASGI app; or granian."""
    server = "granian" if worker_class.startswith(GRANIAN) else "gunicorn"
    needed = [server, "click"] if server == "granian" else [server]
    if worker_class in UVICORN and not has(venv, "uvicorn"):
        needed += ["uvicorn", "uvicorn_worker", "click", "h11"]
        needed += ["typing_extensions.py"] if any(venv.glob("lib/python3.10")) else []
    elif worker_class in UVICORN and not has(venv, "uvicorn/workers.py"):
        needed.append("uvicorn_worker")
    missing = [name for name in needed if not has(venv, name)]
    if missing and not any(venv.glob("lib/python3.[89]")):
        lines = [SERVERS[name] for name in missing]
        _pip(places, tree, venv, ["--no-deps", "--require-hashes", "-r", "-"], "\n".join([*lines, ""]))
        added = ", ".join(line.split(" ")[0] for line in lines)
        say(f"not among the app's dependencies, added by Zarpar: {added}")
    if not (venv / "bin" / server).exists():
        raise HostError(
            f"{server} is not among the app's dependencies, and what Zarpar adds needs Python 3.10",
            hint=f"Add it where you declare them (uv add {server}), commit, and deploy again.",
            kind="build",
        )


def has(venv: Path, module: str) -> bool:
    """Whether an environment holds a module (a package's folder, or a file in one)."""
    return any(True for _path in venv.glob(f"lib/python3*/site-packages/{module}"))


def worker(venv: Path, worker_class: str) -> str:
    """The worker class to start gunicorn (or granian) with: uvicorn's is where the environment has it."""
    if worker_class in UVICORN:
        return UVICORN[1] if has(venv, "uvicorn_worker") else UVICORN[0]
    return worker_class


def _pip(places: Places, tree: Path, venv: Path, argv: list[str], stdin: str = "") -> None:
    into = ["pip", "install", "--compile-bytecode", "--python", str(venv / "bin/python")]
    _uv(places, tree, venv, [*into, *argv], stdin)


def _uv(places: Places, tree: Path, venv: Path, argv: list[str], stdin: str = "") -> None:
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
    done = run([UV, *argv], user=places.app, cwd=tree, env=environment, timeout=BUILD_LIMIT, check=False, stdin=stdin)
    for lock in (cache / "uv").rglob("*.lock"):
        lock.chmod(0o600)  # uv makes them writable for everybody
    if done.code != 0:
        raise HostError(
            "the app's dependencies could not be installed",
            detail=done.tail,
            hint=hints.of_build(done.out + done.err),
            kind="build",
        )


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

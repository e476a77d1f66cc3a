"""An app's source: one commit of a Git repository, and the archive of its tree that goes to the hosts."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zarpar import lockfiles, procfile, pythons, weblines
from zarpar.config import App
from zarpar.errors import BadData
from zarpar_host.masking import logins

GIT_LIMIT = 600
READ = ("Procfile", "manage.py", "requirements.txt", *pythons.FILES)


@dataclass(frozen=True)
class Commit:
    """One commit's tree as an app's source: where it is, what it is, and what its Procfile says.

    processes, schedules: what it runs beside web, as `procfile` has it.
    """

    folder: str
    commit: str
    tree: str
    subject: str
    author: str
    dirty: bool
    wsgi: str
    migrate: str
    inside: str = ""  # the app's folder in a mirror, which has no folders of its own
    worker_class: str = "gthread"
    python: str = ""
    requires: str = ""
    notes: list[str] = field(default_factory=list)
    processes: list[dict[str, Any]] = field(default_factory=list)
    schedules: list[dict[str, str]] = field(default_factory=list)


def cache_folder() -> Path:
    """Where mirrors of repositories are kept: $XDG_CACHE_HOME/zarpar."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "zarpar"


def resolve(name: str, app: App, inventory: Path, ref: str = "") -> Commit:
    """The commit that an app's source means now. A relative path is relative to the inventory's folder.

    Raises BadData, naming the key, for a folder that is no checkout or a ref that does not exist, and naming its line
    for a Procfile that cannot be read.
    """
    ref = ref or app.source.ref
    key = f"apps.{name}.source"
    folder = _folder(key, inventory, app.source.path) if app.source.path else _mirror(key, app.source.repo)
    inside = _git(folder, "rev-parse", "--show-prefix")
    if inside.returncode != 0:
        raise BadData(
            f"{key}.path: {folder} is not in a Git checkout",
            detail=inside.stderr.strip(),
            hint=f"cd {shlex.quote(str(folder))} && git init && git add -A && git commit -m 'First version'",
        )
    prefix = app.source.folder or inside.stdout.strip().rstrip("/")
    below = app.source.folder or "."
    found = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if found.returncode != 0:
        raise BadData(f"{key}.ref: {ref} is not a commit, branch or tag of {app.source.repo or folder}")
    # a checkout may hold more than the app: its release is named after the last commit that touched the app
    tip = found.stdout.strip()
    commit = (_git(folder, "log", "-1", "--format=%H", tip, "--", below).stdout.strip() if prefix else "") or tip
    tree = _git(folder, "rev-parse", "--verify", "--quiet", f"{commit}:{prefix}").stdout.strip()
    if not tree:
        what = "folder" if app.source.folder else "path"
        raise BadData(f"{key}.{what}: {prefix} does not exist in {ref}", hint="Is it committed?")
    subject, author = _git(folder, "log", "-1", "--format=%s%x00%an", commit).stdout.rstrip("\n").split("\0")
    changes = _git(folder, "status", "--porcelain", "--", ".").stdout if app.source.path else ""
    said = _said(folder, tree)
    lines = _procfile(name, said.get("Procfile", ""))
    web = weblines.read(lines.get("web", ""))
    wish = pythons.wish(app.python, said)
    migrate = app.migrate or lines.get("release", "")
    processes, schedules = procfile.processes(name, app, lines), procfile.schedules(app)
    commands = {"release": migrate} | {each["name"]: each["command"] for each in [*processes, *schedules]}
    return Commit(
        folder=str(folder),
        commit=commit,
        tree=tree,
        subject=_one_line(subject),
        author=_one_line(author),
        dirty=bool(changes.strip()),
        wsgi=app.wsgi or web.target or _django_wsgi(folder, tree, said) or "wsgi:app",
        migrate=migrate,
        inside=app.source.folder,
        worker_class=_worker_class(app, web),
        python=wish.version,
        requires=wish.requires,
        notes=[note for note in (wish.note, lockfiles.note(said), web.note, procfile.note(commands)) if note],
        processes=processes,
        schedules=schedules,
    )


def _worker_class(app: App, web: weblines.WebLine) -> str:
    """How the app is served: gunicorn's worker class, or "granian:" and the interface."""
    chosen = app.gunicorn.worker_class or web.worker_class or "gthread"
    if (app.server or web.server) == "granian" and chosen != "gevent":
        return "granian:asgi" if chosen in weblines.ASGI_CLASSES else "granian:wsgi"
    return chosen


def release_id(app: App, source: Commit, services: Sequence[str] = ()) -> str:
    """<commit>-<fingerprint>: the same input gives the same id, on every host and every run.

    services: where the app finds its database and Redis, on any of the hosts.
    """
    matters = app.model_dump(
        include={
            "python",
            "build",
            "env",
            "gunicorn",
            "limits",
            "logs",
            "uploads",
            "database",
            "database_password",
            "redis",
        }
    )
    said = [2, source.tree, source.wsgi, source.worker_class, source.migrate, matters, *services]
    said += [source.processes, source.schedules] if source.processes or source.schedules else []
    text = json.dumps(said, sort_keys=True)
    return f"{source.commit[:8]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def archive(source: Commit) -> bytes:
    """The tree as a compressed tar archive; the same bytes each time."""
    with tempfile.TemporaryDirectory() as tree:
        where = ["-C", source.folder]
        if source.inside:  # git archives the folder that it stands in, with the commit's own time
            standing = Path(tree) / source.inside
            standing.mkdir(parents=True)
            where = [f"--git-dir={source.folder}", f"--work-tree={tree}", "-C", str(standing)]
        made = subprocess.run(  # noqa: S603 - fixed words, a commit's hash and a folder's checked name
            ["git", *where, "archive", "--format=tar", source.commit],  # noqa: S607
            capture_output=True,
            check=False,
            timeout=GIT_LIMIT,
        )
    if made.returncode != 0:
        raise BadData(f"git archive failed in {source.folder}", detail=made.stderr.decode(errors="replace").strip())
    return gzip.compress(made.stdout, compresslevel=5, mtime=0)


def _procfile(name: str, text: str) -> dict[str, str]:
    try:
        return procfile.parse(text)
    except BadData as error:
        raise BadData(f"apps.{name}: {error.summary}", detail=error.detail, hint=error.hint) from error


def _said(folder: Path, tree: str) -> dict[str, str]:
    """The files at the top of a tree that say how it is run, by name; of lock files the name only."""
    objects = _objects(folder, [tree, *(f"{tree}:{name}" for name in READ)])
    names = objects.pop(tree, b"")
    locks = {name: "" for name in lockfiles.NAMES if f" {name}\0".encode() in names}
    return locks | {said.partition(":")[2]: text.decode(errors="replace") for said, text in objects.items()}


def _objects(folder: Path, wanted: list[str]) -> dict[str, bytes]:
    """The contents of some objects of a repository, those that are there, asked for in one call."""
    data = subprocess.run(  # noqa: S603 - fixed words
        ["git", "-C", str(folder), "cat-file", "--batch"],  # noqa: S607
        input="".join(f"{name}\n" for name in wanted).encode(),
        capture_output=True,
        check=False,
        timeout=GIT_LIMIT,
    ).stdout
    found = {}
    for name in wanted:
        head, _, data = data.partition(b"\n")
        size = head.split()[-1:]
        if size and size[0].isdigit():  # else "missing"
            found[name], data = data[: int(size[0])], data[int(size[0]) + 1 :]
    return found


def _django_wsgi(folder: Path, tree: str, said: dict[str, str]) -> str:
    """Of a Django project without a web line: the wsgi.py beside the settings that manage.py names."""
    project = weblines.django_settings(said.get("manage.py", "")).partition(".")[0]
    there = project and _objects(folder, [f"{tree}:{project}/wsgi.py"])
    return f"{project}.wsgi:application" if there else ""


def as_facts(source: Commit) -> dict[str, object]:
    """For Ansible's variables."""
    return asdict(source)


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", " ", text)[:200]


def _folder(key: str, inventory: Path, path: str) -> Path:
    try:
        folder = (inventory / Path(path).expanduser()).resolve()
        is_folder = folder.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # no such user (~name), a name that no folder can have
        raise BadData(f"{key}.path: {path[:60]!r} is not a folder ({error.__class__.__name__})") from None
    if not is_folder:
        raise BadData(f"{key}.path: there is no folder {folder}")
    return folder


def _mirror(key: str, repo: str) -> Path:
    """A bare mirror of a repository in the cache, brought up to date; one process at a time."""
    folder = cache_folder() / "repos" / f"{hashlib.sha256(repo.encode()).hexdigest()[:20]}.git"
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "HEAD").exists():
            done = _git(folder, "fetch", "--quiet", "--prune", "origin")
        else:
            done = _git(folder.parent, "clone", "--quiet", "--mirror", "--", repo, str(folder))
    if done.returncode != 0:
        raise BadData(
            f"{key}.repo: git cannot read {repo}",
            detail=logins(done.stderr).strip()[-1000:],  # Git's own settings may have put one in
            hint=f"Try it by hand: git ls-remote {shlex.quote(repo)}",
        )
    return folder


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C.UTF-8"}
    environment.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")  # a question would hang unseen
    try:
        return subprocess.run(  # noqa: S603 - an argument list; refs come behind --end-of-options
            ["git", "-C", str(folder), *words],  # noqa: S607
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=GIT_LIMIT,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise BadData("git is not installed on this machine", hint="apt-get install git") from error

"""What the command of a web process tells about an app, as a Procfile or render.yaml has it. Pure."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

TARGET = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*(\(\))?")
SERVERS = ("gunicorn", "waitress-serve")
ASGI_SERVERS = ("uvicorn", "hypercorn", "daphne", "fastapi", "granian")
ASGI = "uvicorn.workers.UvicornWorker"
ASGI_CLASSES = (ASGI, "uvicorn_worker.UvicornWorker", "asgi")
MOVES = re.compile(r"--chdir[ =]+(\S+)|--app-dir[ =]+(\S+)|\bcd\s+(\S+)")


@dataclass(frozen=True)
class WebLine:
    """target: `module:callable`, or empty; worker_class: gunicorn's, where the command means another than usual;
    folder: where the command changes to first; server: granian where the command has it, else empty.
    """

    target: str = ""
    worker_class: str = ""
    folder: str = ""
    server: str = ""

    @property
    def note(self) -> str:
        """What a person ought to know, because it is not carried over."""
        if not self.folder:
            return ""
        return (
            f"Procfile, web: it changes to {self.folder[:60]!r}, which is not carried over; when that folder is the"
            " app, say so in `source` (folder of a repo, or the path)"
        )


def read(command: str) -> WebLine:
    """Read a web command; one that cannot be split into words, or has no server that is known, tells nothing."""
    try:
        words = shlex.split(command)
    except ValueError:
        return WebLine()
    programs = [word.rpartition("/")[2] for word in words]
    asgi = next((name for name in ASGI_SERVERS if name in programs), "")
    if not asgi and not set(SERVERS) & set(programs):
        return WebLine()
    targets = [word for word in words if TARGET.fullmatch(word)]
    target = targets[-1] if targets else _fastapi(words) if asgi == "fastapi" else ""
    if target and {"--factory", "--call"} & set(words):
        target = f"{target.removesuffix('()')}()"
    moves = MOVES.search(command)
    folder = next((group for group in moves.groups() if group), "") if moves else ""
    folder = "" if folder in (".", "./") else folder.strip("'\"")
    if asgi == "granian":
        wsgi = option(words, "--interface") == "wsgi"
        return WebLine(target, "" if wsgi else ASGI, folder, asgi)
    return WebLine(target, ASGI if asgi else _worker_class(words), folder)


def _worker_class(words: list[str]) -> str:
    """gunicorn's -k: only what an app cannot do without, a worker that speaks ASGI."""
    chosen = option(words, "-k", "--worker-class").lower()
    return ASGI if "uvicorn" in chosen else "asgi" if chosen == "asgi" else ""


def option(words: list[str], *flags: str) -> str:
    """The value of an option, after it, behind a `=` or (a short one's) joined to it; empty without the option.

    Of several the last one, as the servers themselves take it.
    """
    for word, following in reversed(list(zip(words, [*words[1:], ""], strict=True))):
        flag, _, value = word.partition("=")
        if flag in flags:
            return value or following
        for short in flags:
            if len(short) == len("-k") and word.startswith(short):
                return word[len(short) :]
    return ""


def _fastapi(words: list[str]) -> str:
    """`fastapi run app/main.py`: the module's `app`."""
    file = next((word for word in words if word.endswith(".py")), "main.py")
    module = file.removeprefix("./").removesuffix(".py").replace("/", ".")
    return f"{module}:app" if TARGET.fullmatch(f"{module}:app") else ""


def django_settings(manage: str) -> str:
    """The module of the settings that a manage.py names; empty when it names none."""
    named = re.search(r"DJANGO_SETTINGS_MODULE['\"]\s*,\s*['\"]([A-Za-z_][\w.]*)['\"]", manage, re.ASCII)
    return named.group(1) if named else ""

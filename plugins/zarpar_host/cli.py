"""The verbs of zarpar-host, and the form of requests and answers.

A request is one JSON object on standard input (release.prepare: followed by a newline and the archive's bytes);
the answer is one JSON object on standard output. A failure is an answer too: {"failed": true, "msg": ...}.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from zarpar_host.errors import HostError

# verb -> (module, function); modules are imported only when asked for, which keeps every call short
VERBS = {
    "facts": ("facts", "gather"),
    "look": ("look", "look"),
    "apply": ("apply", "apply"),
    "status": ("releases", "status"),
    "traffic": ("traffic", "traffic"),
    "history": ("releases", "history"),
    "lock": ("lease", "lock"),
    "renew": ("lease", "renew"),
    "unlock": ("lease", "unlock"),
    "prepare": ("releases", "prepare"),
    "migrate": ("migrate", "migrate"),
    "activate": ("switch", "activate"),
    "confirm": ("switch", "confirm"),
    "rollback": ("switch", "rollback"),
    "undo": ("switch", "undo"),
    "prune": ("switch", "prune_now"),
    "watch": ("switch", "watch"),
    "drain": ("switch", "drain"),
    "agree": ("switch", "agree"),
    "recover": ("switch", "recover"),
    "schedules": ("schedules", "listed"),
}
TAKES_ARCHIVE = {"prepare"}
# verb -> module with a `main`: for a person's terminal; no request, and the command's own output and exit code
FOR_PERSONS = {"exec": "oneoff", "run-schedule": "schedules"}


def main(argv: list[str]) -> int:
    """Run one verb; 0 when it did what was asked, 1 when it failed, 2 for a wrong call."""
    if argv and argv[0] in FOR_PERSONS:
        return int(importlib.import_module(f"zarpar_host.{FOR_PERSONS[argv[0]]}").main(argv[1:]))
    if len(argv) < 1 or argv[0] not in VERBS:
        print(f"usage: zarpar-host VERB   (one of: {', '.join([*VERBS, *FOR_PERSONS])})", file=sys.stderr)
        return 2
    os.umask(0o022)
    started = time.monotonic()
    answer = _answer(argv[0], argv[1:], sys.stdin.buffer)
    if argv[0] in TAKES_ARCHIVE and not sys.stdin.isatty():
        while sys.stdin.buffer.read(2**20):
            pass  # a sender that is not heard to the end sees a broken connection, and not the answer
    answer["seconds"] = round(time.monotonic() - started, 3)
    sys.stdout.write(json.dumps(answer) + "\n")
    return 1 if answer.get("failed") else 0


def _answer(verb: str, words: list[str], stream: BinaryIO) -> dict[str, Any]:
    try:
        request = _request(verb, words, stream)
        module, name = VERBS[verb]
        function: Callable[..., dict[str, Any]] = getattr(importlib.import_module(f"zarpar_host.{module}"), name)
        if verb == "facts":
            return function()
        return function(request, stream) if verb in TAKES_ARCHIVE else function(request)
    except HostError as error:
        return {
            "failed": True,
            "msg": "\n".join(part for part in (error.summary, error.detail) if part),
            "hint": error.hint,
            "kind": error.kind,
        }
    except OSError as error:
        return _no_room(error) if error.errno in (errno.ENOSPC, errno.EDQUOT) else _bug(verb, error)
    except Exception as error:  # an answer all the same: whoever asked must not guess
        return _bug(verb, error)


def _no_room(error: OSError) -> dict[str, Any]:
    return {
        "failed": True,
        "msg": f"no room left on the host{f' for {error.filename}' if error.filename else ''}: {error.strerror}",
        "hint": "See what is full with df -h and df -i on the host, free some room (journalctl --vacuum-size=100M;"
        " apt-get clean), and run the same command again.",
        "kind": "disk",
    }


def _bug(verb: str, error: Exception) -> dict[str, Any]:
    import traceback  # only needed here

    trace = "".join(traceback.format_exception(error))
    return {
        "failed": True,
        # not its repr, which for UnicodeEncodeError is the whole text
        "msg": f"zarpar-host {verb}: {type(error).__name__}: {error}\n{trace}",
        "hint": "This is a bug.",
        "kind": "bug",
    }


def _request(verb: str, words: list[str], stream: BinaryIO) -> dict[str, Any]:
    """Words of the form key=value (for people and units), else one line of JSON on standard input."""
    if words:
        return dict(word.split("=", 1) for word in words if "=" in word)
    if sys.stdin.isatty():
        return {}
    line = stream.readline()
    try:
        request = json.loads(line) if line.strip() else {}
    except ValueError as error:
        raise HostError(f"{verb}: the request is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise HostError(f"{verb}: the request is not an object")
    return request

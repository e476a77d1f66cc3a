"""A one-off command in the live release: in its tree, with its environment, as its app's user."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zarpar_host import envfile
from zarpar_host.errors import HostError
from zarpar_host.run import identity
from zarpar_host.state import Places, load

# As env and docker say it: a failure of ours, a program that cannot be run, no such program.
FAILED, NOT_RUNNABLE, NO_PROGRAM = 125, 126, 127
KEPT = ("TERM", "COLORTERM", "COLUMNS", "LINES")
USAGE = "usage: zarpar-host exec APP -- COMMAND [WORD]..."


def main(words: Sequence[str]) -> int:
    """Become the command, so that its exit code is this process's; returns only when it could not be started."""
    if len(words) < 3 or words[1] != "--":
        print(USAGE, file=sys.stderr)
        return FAILED
    try:
        program, argv, environment = command(words[0], words[2:])
        become(identity(words[0]), environment["ZARPAR_RELEASE"])
        os.execve(program, argv, environment)  # noqa: S606 - the operator's command
    except HostError as error:
        print(f"error: {error.summary}", *([f"  next: {error.hint}"] if error.hint else []), sep="\n", file=sys.stderr)
        return NO_PROGRAM if error.kind == "no_program" else FAILED
    except OSError as error:
        print(f"error: {words[2]} cannot be run: {error.strerror}", file=sys.stderr)
        return NOT_RUNNABLE


def command(app: str, words: Sequence[str], root: Path = Path("/")) -> tuple[str, list[str], dict[str, str]]:
    """The program, the arguments and the whole environment of a command in an app's live release.

    Raises HostError when the app has no release here, or the release has no such program.
    """
    places = Places(app, root)
    live = load(places).live if app.replace("-", "").isalnum() else None
    if live is None:
        raise HostError(f"{app} has no live release on this host", hint="Release it first: zarpar deploy ENV")
    values = envfile.parse(places.environment(live.release).read_text())
    environment = {**{name: os.environ[name] for name in KEPT if name in os.environ}, **values}
    tree = values["ZARPAR_RELEASE"]
    name = words[0]
    program = os.path.join(tree, name) if "/" in name else shutil.which(name, path=values["PATH"])  # noqa: PTH118
    if not program or not Path(program).exists():
        raise HostError(f"there is no program {name!r} in release {live.release}", kind="no_program")
    return program, list(words), environment


def become(account: dict[str, Any], tree: str) -> None:
    """Drop to a user with that user's groups, for good, in a folder; what it writes is not for others."""
    os.setgroups(account["extra_groups"])
    os.setgid(account["group"])
    os.setuid(account["user"])
    os.umask(0o027)
    os.chdir(tree)

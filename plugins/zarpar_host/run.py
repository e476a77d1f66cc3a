"""Runs other programs: argument lists only, always with a time limit, never through a shell."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zarpar_host.errors import HostError
from zarpar_host.masking import logins

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BASE_ENVIRONMENT = {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/root"}
TAIL = 6000


@dataclass(frozen=True)
class Completed:
    """What a program left: its exit code and what it printed (both streams as text)."""

    code: int
    out: str
    err: str

    @property
    def tail(self) -> str:
        """The end of what it printed, for messages; logins in addresses are left out."""
        return logins((self.out + self.err).strip())[-TAIL:]


def identity(user: str) -> dict[str, object]:
    """subprocess's arguments for running as a user of this host, with the groups that are its."""
    import grp  # only needed here: keeps the start of the program short
    import pwd

    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise HostError(f"there is no user {user} on this host") from None
    groups = [group.gr_gid for group in grp.getgrall() if user in group.gr_mem]
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups}


def run(
    argv: Sequence[str],
    *,
    timeout: float = 60,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    user: str | None = None,
    stdin: str = "",
) -> Completed:
    """Run argv to its end, in a session of its own, as `user` when given (with that user's groups).

    env: added to a small fixed environment; timeout: seconds, after which the whole session is killed.
    Raises HostError when the program is missing, too slow, or (with check) ends with another code than 0.
    """
    environment = {**BASE_ENVIRONMENT, **(env or {})}
    try:
        process = subprocess.Popen(  # noqa: S603 - an argument list made by this program
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=cwd,
            start_new_session=True,
            text=True,
            errors="replace",
            **(identity(user) if user else {}),  # type: ignore[call-overload]
        )
    except FileNotFoundError as error:
        if not check:
            return Completed(127, "", str(error))
        raise HostError(f"{argv[0]}: no such program", detail=str(error)) from error
    try:
        out, err = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise HostError(
            f"{argv[0]} did not end within {timeout:g} s and was stopped",
            detail=logins((out + err).strip())[-TAIL:],
            kind="timeout",
        ) from error
    done = Completed(process.returncode, out, err)
    if check and done.code != 0:
        raise HostError(f"{' '.join(argv[:3])} failed with code {done.code}", detail=done.tail)
    return done

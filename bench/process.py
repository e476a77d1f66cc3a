"""Run a command and tell what it cost. The only module that starts the contenders' commands."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LIMIT = 1800  # seconds: only what hangs for good takes so long


@dataclass(frozen=True)
class Cost:
    """What one command took.

    seconds: wall time; cpu: seconds of processor on the controller, of the command and all it waited for (not of what
    went into the background, such as a shared SSH connection); peak_mb: memory of its largest single process.
    """

    argv: tuple[str, ...]
    code: int
    seconds: float
    cpu: float
    peak_mb: float
    text: str

    def __str__(self) -> str:
        return f"{' '.join(self.argv)}\nexit code {self.code} after {self.seconds:.1f} s\n{self.text}"


class CommandFailed(RuntimeError):
    """A command that had to succeed did not; the text holds all that it said."""


def run(argv: Sequence[str], *, cwd: Path, environment: Mapping[str, str], log: Path) -> Cost:
    """Run a command without a terminal, its output going to a file, and return what it cost."""
    with log.open("wb") as sink:
        begin = time.monotonic()
        process = subprocess.Popen(  # noqa: S603 - an argument list, and never a shell
            list(argv), cwd=cwd, env=dict(environment), stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
        )
        timer = threading.Timer(LIMIT, process.kill)
        timer.daemon = True
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
        seconds = time.monotonic() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    text = log.read_text(errors="replace")
    return Cost(tuple(argv), process.returncode, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text)


def quiet(argv: Sequence[str], *, stdin: str = "", check: bool = True, cwd: Path | None = None) -> str:
    """Run a command that is not measured; return what it printed, or raise CommandFailed."""
    done = subprocess.run(  # noqa: S603 - an argument list, and never a shell
        list(argv), input=stdin, capture_output=True, text=True, errors="replace", timeout=LIMIT, check=False, cwd=cwd
    )
    if check and done.returncode != 0:
        raise CommandFailed(f"{' '.join(argv)[:300]}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout

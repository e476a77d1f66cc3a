"""Runs what was planned. The only module that knows ansible-runner.

ansible-runner is imported when a run begins, not before: it costs 0.15 s that `zarpar --help` need not pay.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from zarpar.plan import Plan

# How long ansible-playbook may take to stop its workers after the first Ctrl-C; a second one does not wait.
GRACE = 10.0

# ansible-runner reads these from a file, and ignores them when they are given to run(): no copy of Ansible's
# output on disk or on our standard output, and a look every 0.2 s at whether somebody pressed Ctrl-C.
SETTINGS = {"suppress_output_file": True, "suppress_ansible_output": True, "pexpect_timeout": 0.2}


@dataclass(frozen=True)
class Finished:
    """How a run ended; interrupted: by a signal to this process."""

    return_code: int | None
    interrupted: bool


class Interruption:
    """Turns SIGINT, SIGTERM and SIGHUP into an orderly end of the run; ansible-runner asks it now and then.

    ansible-runner would kill ansible-playbook at once, and its workers, being in sessions of their own, would
    go on with their tasks. ansible-playbook stops them itself when it gets SIGINT.
    """

    def __init__(self) -> None:
        self.signals = 0
        self.process = 0  # ansible-playbook's, known from its first event on
        self._deadline = 0.0

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Catch the signals while the body runs."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._catch) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def __call__(self) -> bool:
        """Tell ansible-runner whether to kill the run now."""
        if not self.signals:
            return False
        if not self._deadline:
            self._deadline = time.monotonic() + GRACE
            if self.process:
                with suppress(ProcessLookupError):
                    os.kill(self.process, signal.SIGINT)
        return not self.process or self.signals > 1 or time.monotonic() > self._deadline

    def _catch(self, _number: int, _frame: FrameType | None) -> None:
        self.signals += 1


class Relay:
    """Hands events on. A fault of the listener must not cut a run short: it is kept, to be raised later."""

    def __init__(self, listener: Callable[[Mapping[str, Any]], None], interruption: Interruption) -> None:
        self.fault: Exception | None = None
        self._listener = listener
        self._interruption = interruption

    def __call__(self, event: Mapping[str, Any]) -> bool:
        """Take one event of ansible-runner; False keeps it off the disk."""
        self._interruption.process = event.get("pid") or self._interruption.process
        if self.fault is None:
            try:
                self._listener(event)
            except Exception as fault:
                self.fault = fault
        return False


def run(
    plan: Plan, listener: Callable[[Mapping[str, Any]], None], secrets: Mapping[str, str] | None = None
) -> Finished:
    """Run a planned ansible-playbook and hand each event to the listener as it comes.

    secrets: answers by the patterns of the plan's prompts; they go to the run's terminal and nowhere else.
    What ansible-runner has to write goes into a fresh folder that only this user can open, and is removed.
    """
    import ansible_runner

    interruption = Interruption()
    relay = Relay(listener, interruption)
    with (
        tempfile.TemporaryDirectory(prefix="zarpar-", ignore_cleanup_errors=True) as private,
        only_environment({**plan.environment, "ANSIBLE_LOCAL_TEMP": str(Path(private, "local"))}),
        interruption.armed(),
        prompt_close(),
    ):
        settings = Path(private, "env", "settings")
        settings.parent.mkdir(mode=0o700)
        settings.write_text(json.dumps(SETTINGS))
        done = ansible_runner.run(
            private_data_dir=private,
            project_dir=str(plan.directory),
            ident="run",
            binary=plan.argv[0],
            cmdline=shlex.join(plan.argv[1:]),
            passwords=dict(secrets or {}),
            suppress_env_files=True,
            fact_cache_type="memory",  # anything but jsonfile: facts stay off the disk
            event_handler=relay,
            cancel_callback=interruption,
        )
    if relay.fault is not None:
        raise relay.fault
    return Finished(done.rc, interruption.signals > 0)


@contextmanager
def prompt_close() -> Iterator[None]:
    """Let go of the run's terminal at once.

    ptyprocess sleeps 0.1 s first, to give a child time to end; ansible-runner closes only when its has ended.
    """
    from ptyprocess import PtyProcess  # type: ignore[import-untyped]

    PtyProcess.delayafterclose = property(lambda _self: 0.0, lambda _self, _value: None)
    try:
        yield
    finally:
        del PtyProcess.delayafterclose


def run_plainly(plan: Plan) -> int:
    """Run a planned program on this terminal; return its exit code."""
    return subprocess.run(plan.argv, cwd=plan.directory, env=plan.environment, check=False).returncode  # noqa: S603


def become(argv: Sequence[str]) -> NoReturn:
    """Replace this process by a program, such as ssh."""
    os.execvp(argv[0], list(argv))  # noqa: S606


@contextmanager
def only_environment(environment: Mapping[str, str]) -> Iterator[None]:
    """Make this the process's whole environment for a while.

    ansible-runner copies all of os.environ into the run, and into a file.
    """
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)

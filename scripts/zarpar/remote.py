"""Logs of all hosts with apps, one-off commands in a live release, schedules: by ssh, past Ansible. Prints nothing."""

from __future__ import annotations

import heapq
import json
import re
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from zarpar.connection import Server, as_root
from zarpar.diagnosis import plain, recognise
from zarpar.errors import BadData, Exit, ZarparError

PYTHON = "/usr/bin/python3"
LIBRARY = "/usr/local/lib/zarpar"
LAUNCHER = "/usr/local/sbin/zarpar-host"
SSH_FAILED = 255
QUIET = ("-o", "BatchMode=yes", "-o", "LogLevel=ERROR")
PROCESS = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,29}", re.ASCII)  # as in `config`, whose import costs a fifth of a second
SINCE = re.compile(r"[A-Za-z0-9 :+.@-]{1,60}", re.ASCII)
SHORT = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
UNITS = {"s": "sec", "m": "min", "h": "hours", "d": "days"}
WAITING = 1000  # lines
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+")
NOT_THERE = "error: this host does not know this command yet; next: zarpar provision ENV"


class Unreachable(ZarparError):
    """A host could not be reached."""

    exit_code = Exit.UNREACHABLE


def unreachable(server: Server, said: str) -> Unreachable:
    """The error for what ssh said when it could not log in."""
    known = recognise(said, server.name)
    summary = known.summary if known and known.summary else "no SSH connection"
    # the last resort is what a person would try
    return Unreachable(
        f"{server.name}: {summary}", detail=said.strip(), hint=known.hint if known else f"Try: ssh {server.address}"
    )


# -- one-off commands ------------------------------------------------------------------------------------------


def exec_script(version: str, app: str, words: Sequence[str], *, ask: bool) -> str:
    """The script that runs a command in an app's live release."""
    return host_script(version, ["exec", app, "--", *words], ask=ask)


def host_script(version: str, call: Sequence[str], *, ask: bool = False) -> str:
    """The script that calls this version of zarpar-host, or the host's own when that knows the verb.

    The shell stays, because ssh knows no exit code of a command that a signal ended; the shell does.
    """
    ours = f"{LIBRARY}/{version}"
    known = f"{LAUNCHER} 2>&1 | grep -qw -e {shlex.quote(call[0])}"
    return (
        f"if [ -e {ours}/__main__.py ]; then ({as_root([PYTHON, '-I', '-S', ours, *call], ask=ask)}); exit $?; fi\n"
        f"if {known}; then ({as_root([LAUNCHER, *call], ask=ask)}); exit $?; fi\n"
        f"echo {shlex.quote(NOT_THERE)} >&2; exit 125"
    )


def run_command(server: Server, version: str, app: str, words: Sequence[str], *, terminal: bool) -> int:
    """Run a command in an app's live release on a host, with this process's streams; return its exit code.

    Raises Unreachable when the host is the reason, not the command.
    """
    options = ["-tt"] if terminal else ["-T"]
    return _become(server, exec_script(version, app, words, ask=terminal), *options)


def _become(server: Server, script: str, *options: str) -> int:
    """Run a script with this process's streams; return its exit code. Raises Unreachable when the host is why."""
    argv = server.ssh(script, *options, "-o", "LogLevel=ERROR")
    code = subprocess.run(argv, check=False).returncode  # noqa: S603 - its words are quoted, see host_script
    if code == SSH_FAILED:
        probe(server)
    return code


def probe(server: Server) -> None:
    """Raise Unreachable when nobody can log in to a host."""
    argv = server.ssh("true", *QUIET, "-T")
    done = subprocess.run(argv, check=False, capture_output=True, text=True, errors="replace")  # noqa: S603
    if done.returncode == SSH_FAILED:
        raise unreachable(server, done.stderr)


# -- schedules -------------------------------------------------------------------------------------------------


def schedules(servers: Sequence[Server], version: str, apps: Sequence[str]) -> list[tuple[Server, dict[str, Any]]]:
    """What each server says of the schedules that it runs. Raises Unreachable for the first that cannot be asked."""
    with ThreadPoolExecutor(max_workers=10) as pool:
        answers = list(pool.map(lambda server: _ask(server, version, "schedules", {"apps": list(apps)}), servers))
    return [(server, each) for server, its in zip(servers, answers, strict=True) for each in its["schedules"]]


def _ask(server: Server, version: str, verb: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Call a verb of zarpar-host that only looks. Raises Unreachable, or ZarparError with its words."""
    argv = server.ssh(host_script(version, [verb]), *QUIET, "-T")
    done = subprocess.run(  # noqa: S603 - our own script
        argv, input=json.dumps(request) + "\n", capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode == SSH_FAILED:
        raise unreachable(server, done.stderr)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        known = recognise(done.stderr, server.name)
        said = str(json.loads(lines[-1]).get("msg", "")) if lines else done.stderr.strip()
        raise ZarparError(f"{server.name}: {said or 'no answer'}", hint=known.hint if known else "")
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def run_schedule(server: Server, version: str, app: str, name: str) -> int:
    """Run a schedule now, tell what it says as it says it, and return its exit code. Raises Unreachable."""
    return _become(server, host_script(version, ["run-schedule", app, name]), "-T")


# -- logs ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wish:
    """Which lines of the logs are wanted; checked on creation. files: the apps that log to files of their own.

    process: only of this one, `web` or a process; schedule: only of this one.
    """

    apps: tuple[str, ...]
    files: tuple[str, ...] = ()
    since: str = ""
    lines: int = 100
    follow: bool = False
    process: str = ""
    schedule: str = ""

    def __post_init__(self) -> None:
        for flag, name in (("--process", self.process), ("log", self.schedule)):
            if name and not PROCESS.fullmatch(name):
                raise BadData(f"{flag}: {name[:40]!r} is no name", hint="Such as: web, worker")
        if self.since and not SINCE.fullmatch(self.since):
            raise BadData(f"--since: {self.since!r} is no time", hint='Such as: 10m, 2h, yesterday, "2026-01-31 12:00"')


def logs_script(wish: Wish) -> str:
    """The script that prints the lines on one host."""
    words = ["journalctl", "--no-pager", "--quiet", "--utc", "--output=short-iso-precise", "--no-hostname"]
    words += [f"--unit={unit}" for app in wish.apps for unit in _units(app, wish)]
    words += [f"--since={_since(wish.since)}"] if wish.since else []
    # everything since a time, or the newest lines
    words += [] if wish.since and not wish.follow else [f"--lines={wish.lines}"]
    words += ["--follow"] if wish.follow else []
    journal = as_root(words)
    if not wish.files or wish.schedule or wish.process not in ("", "web"):  # only gunicorn logs to files
        return journal
    paths = " ".join(f"/var/log/zarpar/{app}/*.log" for app in wish.files)  # names of apps need no quotes
    tail = f"tail -q -n {wish.lines} {'-F ' if wish.follow else ''}{paths} 2>/dev/null"
    return f"({as_root(['/bin/sh', '-c', tail])}) & ({journal}); code=$?; wait; exit $code"


def _units(app: str, wish: Wish) -> list[str]:
    """The names of the units whose lines are wanted, as journalctl takes them."""
    web, schedules = f"zarpar-{app}@*.service", f"zarpar-{app}.schedule@"
    if wish.schedule:
        return [f"{schedules}{wish.schedule}.service"]
    if wish.process == "web":
        return [web]
    if wish.process:  # worker is not worker-mail; there are at most 64 of a process
        return [f"zarpar-{app}.*@{wish.process}-{number}.service" for number in ("[0-9]", "[0-9][0-9]")]
    return [web, f"zarpar-{app}.*@*.service"]


def _since(text: str) -> str:
    """A time as journalctl reads it; 10m is ten minutes ago."""
    short = SHORT.fullmatch(text)
    return f"-{short.group(1)}{UNITS[short.group(2)]}" if short else text


def logs(servers: Sequence[Server], wish: Wish, say: Callable[[str], None]) -> list[ZarparError]:
    """Say the wanted lines of all servers, each after its host's name; return what went wrong on which host.

    Lines that are there are told in the order of time, lines that come in the order in which they come.
    """
    width = max(len(server.name) for server in servers)
    streams = [Stream(server, logs_script(wish), f"{server.name:<{width}} | ") for server in servers]
    try:
        if wish.follow:
            _as_they_come(streams, say)
        else:
            for _time, _number, line in heapq.merge(*(stream.timed() for stream in streams), key=lambda one: one[0]):
                say(line)
    finally:
        for stream in streams:
            stream.close()
    return [problem for problem in (stream.problem() for stream in streams) if problem]


class Stream:
    """What a script prints on one host, line by line."""

    def __init__(self, server: Server, script: str, prefix: str) -> None:
        self.server, self.prefix = server, prefix
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            server.ssh(script, *QUIET, "-T"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._said: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def lines(self) -> Iterator[str]:
        """Each line, after the host's name, without what a terminal would act on."""
        for line in self._process.stdout or ():
            yield self.prefix + plain(line.rstrip("\n"))

    def timed(self) -> Iterator[tuple[str, int, str]]:
        """Each line with its time and number, in order; one without a time belongs to the one before it.

        The journal is in the order in which lines reached it, which may be moments after the time that it shows,
        and an app's own files come beside it: so lines wait until WAITING others have come.
        """
        time = ""
        waiting: list[tuple[str, int, str]] = []
        for number, line in enumerate(self.lines()):
            found = TIME.match(line, len(self.prefix))
            time = found.group() if found else time
            heapq.heappush(waiting, (time, number, line))
            if len(waiting) > WAITING:
                yield heapq.heappop(waiting)
        yield from sorted(waiting)

    def problem(self) -> ZarparError | None:
        """Why the script failed; None when it did not."""
        code = self._process.wait()
        self._listener.join()
        said = "".join(self._said)
        if code == SSH_FAILED:
            return unreachable(self.server, said)
        if code > 0:
            known = recognise(said, self.server.name)
            hint = known.hint if known else ""
            return ZarparError(f"{self.server.name}: the log cannot be read", detail=said.strip(), hint=hint)
        return None

    def close(self) -> None:
        """End it, if it has not ended by itself."""
        if self._process.poll() is None:
            self._process.terminate()

    def _listen(self) -> None:
        for line in self._process.stderr or ():
            self._said.append(line)


def _as_they_come(streams: Iterable[Stream], say: Callable[[str], None]) -> None:
    """Say every stream's lines until all have ended; one line at a time."""
    one_at_a_time = threading.Lock()

    def tell(stream: Stream) -> None:
        for line in stream.lines():
            with one_at_a_time:
                say(line)

    threads = [threading.Thread(target=tell, args=(stream,), daemon=True) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

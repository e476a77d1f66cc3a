"""What a person sees. The only module that prints: the story to standard error, --json to standard output.

Rich is imported at the first line to print, while Ansible is starting beside us: so it costs no time.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from zarpar.diagnosis import Failure, plain
from zarpar.errors import Exit, ZarparError
from zarpar.story import Header, Moment, Output, Release, Repeated, Step, Story, Warned

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

FIRST_SIGN = 0.3  # seconds until the spinner appears
SILENCE = 10.0  # seconds without a line until "still working" is printed where there is no terminal
DETAIL_HEAD, DETAIL_TAIL = 10, 20  # lines of a long explanation that are shown without --verbose
PYTHON_ERROR = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Warning)\b")  # the line that a traceback is about

OUTCOMES = {
    "active": ("active", "green"),
    "unchanged": ("nothing to do", "dim"),
    "would be released": ("to be released", "green"),
    "prepared": ("prepared", ""),
    "migrated": ("migrated", ""),
    "not_activated": ("not activated", "yellow"),
    "rolled_back": ("rolled back", "red"),
}
ENDINGS = {
    Exit.FAILED: "failed",
    Exit.REFUSED: "refused: nothing was changed",
    Exit.PARTIAL: "some hosts are done and some are not: the same command, run again, finishes the job",
    Exit.UNREACHABLE: "not reachable",
    Exit.INTERRUPTED: "interrupted: the same command, run again, finishes the job",
}


class Ui:
    """One command's screen."""

    def __init__(
        self,
        *,
        verbose: bool = False,
        check: bool = False,
        stream: TextIO | None = None,
        log: TextIO | None = None,
    ) -> None:
        self.verbose = verbose
        self.check = check
        self._stream = stream or sys.stderr
        self._log = log
        # looked at now: the environment is another one while Ansible runs
        self._colour = not os.environ.get("NO_COLOR")
        self._made: Console | None = None
        self._making = threading.Lock()
        self._last_line = time.monotonic()
        self._released: set[str] = set()

    @property
    def terminal(self) -> bool:
        """Tell whether a person looks at this while it happens."""
        return self._stream.isatty()

    def say(self, text: str, style: str = "") -> None:
        """Print a line of our own, or of a program: never markup."""
        self._note(text)
        self._show(text, style)

    def _note(self, text: str) -> None:
        """Write a line into the run's log."""
        if self._log:
            with suppress(OSError):  # a full disk on this side is no reason to stop a deploy
                print(plain(text), file=self._log)

    def _show(self, text: str, style: str = "") -> None:
        if self._made is None and not style:  # not worth importing Rich
            self._last_line = time.monotonic()
            with suppress(BrokenPipeError):
                print(plain(text), file=self._stream, flush=True)
            return
        from rich.text import Text

        self._print(Text(plain(text), style=style))

    def moment(self, moment: Moment) -> None:
        """Tell one thing that happened."""
        match moment:
            case Header():
                self.say(f"\n{moment.title}", "bold")
            case Step():
                self._step(moment)
            case Release():
                self._release(moment)
            case Failure():
                self._failure(_headline(moment), moment.detail, moment.hint)
            case Repeated():
                self.say(f"error: {moment.host}: the same", "red")
            case Warned():
                self.say(f"warning: {moment.text}", "yellow")
            case Output():
                self._perhaps(moment.text)

    def trouble(self, moment: Moment) -> None:
        """Tell it only if it is a failure, or Ansible's own words with --verbose."""
        if isinstance(moment, Failure | Repeated | Warned | Output):
            self.moment(moment)

    def error(self, error: ZarparError) -> None:
        """Tell what went wrong: one red line, then what is known, then what to do next."""
        self._failure(error.summary, error.detail, error.hint)

    def summary(self, story: Story, seconds: float) -> None:
        """Tell what the run comes to."""
        if story.releases:
            self._releases(story.releases)
        for host in story.hosts if story.changes else ():
            self.say(_times(host, [step for step in story.steps if step.host == host]), "dim")
        code = story.exit_code()
        took = f" ({seconds:.1f} s)"
        if code == Exit.OK:
            self.say(_good_ending(story, self.check) + took, "bold green")
            return
        for line in _all_failures(story.failures) if len(story.failures) > 1 else ():
            self.say(f"  {line}", "red")
        self.say(ENDINGS[code] + _still_serving(story) + took, "bold red")

    def statuses(self, story: Story) -> None:
        """Show what serves, per host and app."""
        rows = [
            (host, app, *_state(facts), _room(status))
            for host, status in sorted(story.statuses.items())
            for app, facts in sorted(status.get("apps", {}).items())
        ]
        columns = ("Host", "App", "Release", "State", "Runs", "Last deploy", "Certificate", "Disk free")
        self.table(columns, rows)

    def history(self, story: Story) -> None:
        """Show every server's releases, the newest first."""
        rows = [
            (host, app, *_past(facts, entry))
            for host, status in sorted(story.statuses.items())
            for app, facts in sorted(status.get("apps", {}).items())
            for entry in facts.get("releases", [])
        ]
        columns = ("Host", "App", "Release", "State", "Subject", "Author", "By", "When", "Took", "Schema")
        self.table(columns, rows)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
        """Print rows in columns; nothing at all without rows."""
        if not rows:
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for column in columns:
            table.add_column(column, justify="right" if column == "Seconds" else "left", overflow="fold")
        for row in rows:
            table.add_row(*(cell if isinstance(cell, Text) else Text(plain(cell)) for cell in row))
        self._print(table)

    def result(self, facts: dict[str, Any]) -> None:
        """Print a result for programs."""
        print(json.dumps(facts, indent=2, sort_keys=True))

    def confirm(self, question: str) -> bool:
        """Ask a person; anything but yes means no."""
        print(f"{question} [y/N] ", end="", file=self._stream, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def secret(self, question: str) -> str:
        """Ask for a password without showing it."""
        return getpass.getpass(f"{question}: ", stream=self._stream)

    @contextmanager
    def pulse(self, doing: Callable[[], str]) -> Iterator[None]:
        """Show, while the body runs, that something goes on and how long it has: `doing` says what."""
        over = threading.Event()
        show = self._spin if self.terminal else self._murmur
        thread = threading.Thread(target=show, args=(doing, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _spin(self, doing: Callable[[], str], over: threading.Event) -> None:
        if over.wait(FIRST_SIGN):
            return
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        start = time.monotonic() - FIRST_SIGN
        spinner = Spinner("dots")

        def frame() -> Spinner:
            spinner.update(text=Text(f"{doing()}  {time.monotonic() - start:.0f} s", style="dim"))
            return spinner

        with Live(get_renderable=frame, console=self._console, refresh_per_second=5, transient=True):
            over.wait()

    def _murmur(self, doing: Callable[[], str], over: threading.Event) -> None:
        start = time.monotonic()
        while not over.wait(1.0):
            if time.monotonic() - self._last_line >= SILENCE:
                self.say(f"still working: {doing()}, {time.monotonic() - start:.0f} s")

    def _step(self, step: Step) -> None:
        if step.host in self._released:  # its line is there already
            self._released.discard(step.host)
            return
        count = len(step.changed)
        what = f"{count} {'to change' if self.check else 'changed'}" if count else "ok"
        self.say(f"  {step.host:<12} {step.role:<18} {what:<14}{step.seconds:>7.1f} s")
        for item in step.changed:
            self._perhaps(f"    {item}", wanted=self.check)

    def _perhaps(self, text: str, *, wanted: bool = False) -> None:
        """Write it into the log, and show it with --verbose or when it is wanted anyhow."""
        self._note(text)
        if self.verbose or wanted:
            self._show(text, "dim")

    def _release(self, release: Release) -> None:
        self._released.add(release.host)
        word, style = OUTCOMES.get(release.outcome, (release.outcome, ""))
        line = f"  {release.host:<12} {release.app:<18} {word:<14}{release.seconds:>7.1f} s"
        self.say(f"{line}  {release.release}", style)

    def _failure(self, summary: str, detail: str, hint: str) -> None:
        self.say(f"error: {summary}", "bold red")
        lines = plain(detail).splitlines()
        for line in lines:
            self._note(f"  {line}")
        for line in lines if self.verbose else _shortened(lines, self._whole):
            self._show(f"  {line}")
        if hint:
            self.say(f"  next: {hint}", "bold")

    @property
    def _whole(self) -> str:
        """Where a person finds what is left out."""
        return f"all of it: {os.path.relpath(self._log.name)}" if self._log else "--verbose shows them"

    def _releases(self, releases: Sequence[Release]) -> None:
        rows = [(one.host, one.app, one.release, _word(one), f"{one.seconds:.1f}") for one in releases]
        self.say("")
        self.table(("Host", "App", "Release", "Outcome", "Seconds"), rows)
        for url in dict.fromkeys(one.url for one in releases if one.url):
            self.say(url, "bold")

    def _print(self, thing: Text | Table) -> None:
        self._last_line = time.monotonic()
        self._console.print(thing, soft_wrap=not self.terminal)

    @property
    def _console(self) -> Console:
        with self._making:
            if self._made is None:
                from rich.console import Console

                class Screen(Console):
                    def on_broken_pipe(self) -> None:
                        self.quiet = True  # nobody reads any more: the run goes on (Rich would end the program)

                self._made = Screen(
                    file=self._stream,
                    force_terminal=self.terminal,
                    no_color=not self._colour,
                    highlight=False,
                    width=None if self.terminal else 200,
                )
            return self._made


def _shortened(lines: list[str], whole: str) -> list[str]:
    """Leave out the middle of many lines, but for those that name a Python error."""
    left_out = lines[DETAIL_HEAD:-DETAIL_TAIL]
    if not left_out:
        return lines
    named = dict.fromkeys(line for line in left_out if PYTHON_ERROR.match(line))
    short = f"... {len(left_out) - len(named)} lines left out ({whole})"
    return [*lines[:DETAIL_HEAD], *named, short, *lines[-DETAIL_TAIL:]]


def _headline(failure: Failure) -> str:
    if failure.kind == "bad_data":  # it names the key; which host asked does not matter
        return failure.summary
    return ": ".join(filter(None, (failure.host or "ansible-playbook", failure.where, failure.summary)))


def _all_failures(failures: Sequence[Failure]) -> list[str]:
    """Return one line per cause, with the hosts that it struck."""
    hosts: dict[tuple[str, str], list[str]] = {}
    for failure in failures:
        hosts.setdefault((failure.where, failure.summary), []).append(failure.host)
    return [f"{', '.join(struck)}: {where}: {summary}" for (where, summary), struck in hosts.items()]


def _word(release: Release) -> Text:
    from rich.text import Text

    return Text(*OUTCOMES.get(release.outcome, (release.outcome, "")))


def _state(facts: Mapping[str, Any]) -> tuple[str | Text, ...]:
    """Return release, state, what runs, last deploy and certificate of an app on a host, as zarpar-host tells them."""
    from rich.text import Text

    live, days = facts.get("live") or {}, facts.get("certificate_days")
    certificate = "" if days is None else f"{days} days left"
    last = _last(facts.get("last") or {})
    if not live:
        return "", Text("no release yet", "dim"), "", last, certificate
    problem = plain(str(facts.get("problem")))  # the app's own words
    healthy = Text("healthy", "green") if facts.get("healthy") else Text(f"ill: {problem}", "red")
    if facts.get("watched"):
        healthy.append(", watched", "yellow")
    return plain(str(live.get("release") or "")), healthy, _runs(facts), last, certificate


def _runs(facts: Mapping[str, Any]) -> Text:
    """Return what runs of an app: its slots, and how many of each process, of how many that should."""
    from rich.text import Text

    shown = Text(", ".join(f"{slot} {plain(str(word))}" for slot, word in sorted((facts.get("slots") or {}).items())))
    for name, its in sorted((facts.get("processes") or {}).items()):
        missing = its.get("running") != its.get("wanted")
        shown.append(", " if shown else "")
        shown.append(f"{plain(name)} {its.get('running')}/{its.get('wanted')}", "red" if missing else "")
    return shown


def _last(event: Mapping[str, Any]) -> Text:
    """Return what happened to the app last: which release, by whom, when, and why if it went wrong."""
    from rich.text import Text

    words = {name: plain(str(event.get(name) or "")) for name in ("event", "release", "by", "at", "why")}
    by, why = words["by"] and f"by {words['by']}", words["why"] and f": {words['why']}"
    text = " ".join(filter(None, (words["event"], words["release"].partition("-")[0], by, words["at"]))) + why
    return Text(text, "" if not why else "red")


def _room(status: Mapping[str, Any]) -> str:
    free = status.get("disk_free_mb")
    return f"{free / 1024:.1f} GB" if isinstance(free, int) else ""


STATES = {"good": "green", "live": "bold green", "previous": "green", "bad": "red"}


def _past(facts: Mapping[str, Any], entry: Mapping[str, Any]) -> tuple[str | Text, ...]:
    """Return what a row of the history says of one release."""
    from rich.text import Text

    release, state = str(entry.get("release")), str(entry.get("status"))
    if release == (facts.get("live") or {}).get("release"):
        state = "live, watched" if facts.get("watched") else "live"
    elif release == facts.get("previous"):
        state = "previous"
    when = str(entry.get("activated_at") or entry.get("prepared_at") or "")
    words = [plain(str(entry.get(name) or "")) for name in ("subject", "author", "by")]
    took = f"{entry['took']:.1f} s" if isinstance(entry.get("took"), int | float) else ""
    schema = ", ".join(plain(str(name)) for name in (entry.get("schema") or [])[:2])
    return release, Text(state, STATES.get(state.partition(",")[0], "")), *words, when, took, schema


def _times(host: str, steps: Sequence[Step]) -> str:
    roles = Counter(step.role for step in steps)
    names = [step.role if step.role and roles[step.role] == 1 else step.play for step in steps]
    parts = [f"{name} {step.seconds:.1f}" for name, step in zip(names, steps, strict=True) if step.seconds >= 0.1]
    return f"{host}  {sum(step.seconds for step in steps):.1f} s: {', '.join(parts)}"


def _good_ending(story: Story, check: bool) -> str:
    if story.nothing_to_do:
        return "nothing to do"
    changes = f"{story.changes} {'change' if story.changes == 1 else 'changes'}"
    return f"check: {changes} would be made" if check else f"done: {changes}"


def _still_serving(story: Story) -> str:
    releases = story.releases
    if releases and not any(one.outcome == "active" for one in releases):
        return "; what served before still serves"
    return ""

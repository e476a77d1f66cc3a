"""What a person sees of recorded runs, and of trouble."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path

import pytest

from zarpar import ui
from zarpar.diagnosis import Failure
from zarpar.errors import BadData
from zarpar.runlog import open_log
from zarpar.story import Output, Story
from zarpar.ui import Ui

EVENTS = Path(__file__).parent / "events"


class Terminal(io.StringIO):
    """A stream that says that a person is watching."""

    def isatty(self) -> bool:
        return True


def tell(name: str, *, verbose: bool = False, check: bool = False, stream: io.StringIO | None = None) -> str:
    """Return all that is printed for a recorded run."""
    stream = stream or io.StringIO()
    screen, story = Ui(verbose=verbose, check=check, stream=stream), Story()
    *events, end = json.loads((EVENTS / f"{name}.json").read_text())
    for event in events:
        for moment in story.feed(event):
            screen.moment(moment)
    for moment in story.close(end["return_code"]):
        screen.moment(moment)
    screen.summary(story, 12.34)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


RELEASED = """
Preflight
warning: notes: uncommitted changes are not part of the release
  web1                            ok                1.0 s
  web2                            ok                0.5 s

Provision
  web1         base               2 changed         0.5 s
  web2         base               2 changed         0.5 s
  web1         nginx              ok                0.5 s
  web2         nginx              ok                0.5 s

Prepare
  web1         notes              prepared          6.2 s  3f2a9c1d-a1b2c3
  web2         notes              prepared          6.2 s  3f2a9c1d-a1b2c3

Migrate
  web1         notes              migrated          0.5 s  3f2a9c1d-a1b2c3

Activate
  web1         notes              active            2.0 s  3f2a9c1d-a1b2c3
  web2         notes              active            2.0 s  3f2a9c1d-a1b2c3

Host  App    Release          Outcome  Seconds
web1  notes  3f2a9c1d-a1b2c3  active       8.7
web2  notes  3f2a9c1d-a1b2c3  active       8.2
https://notes.example.test/
web1  3.5 s: Preflight 1.0, base 0.5, nginx 0.5, Prepare 0.5, Migrate 0.5, Activate 0.5
web2  2.5 s: Preflight 0.5, base 0.5, nginx 0.5, Prepare 0.5, Activate 0.5
done: 9 changes (12.3 s)"""

SECOND_UNHEALTHY = """
Prepare
  web1         notes              prepared          6.2 s  3f2a9c1d-a1b2c3
  web2         notes              prepared          6.2 s  3f2a9c1d-a1b2c3

Activate
  web1         notes              active            2.0 s  3f2a9c1d-a1b2c3
  web2         notes              not activated    31.0 s  3f2a9c1d-a1b2c3
error: web2: app_release: Activate: notes: not healthy after 30 s
  GET /health: 500
  Traceback: KeyError
  next: zarpar-host logs notes

Host  App    Release          Outcome        Seconds
web1  notes  3f2a9c1d-a1b2c3  active             8.2
web2  notes  3f2a9c1d-a1b2c3  not activated     37.2
https://notes.example.test/
web1  1.0 s: Prepare 0.5, Activate 0.5
web2  0.5 s: app_release 0.5
some hosts are done and some are not: the same command, run again, finishes the job (12.3 s)"""

REFUSED = """
Preflight
error: apps.notes.domain: unknown key
  Known: domains, source
  next: Did you mean domains?
refused: nothing was changed (12.3 s)"""

UNREACHABLE = """
Preflight
error: web1: Preflight: Check the host: its name does not resolve
  Could not resolve hostname web1.invalid: Name or service not known
  next: Check ansible_host of web1 in the inventory, and DNS: getent hosts web1.invalid
error: web2: Preflight: Check the host: its name does not resolve
  Could not resolve hostname web2.invalid: Name or service not known
  next: Check ansible_host of web2 in the inventory, and DNS: getent hosts web2.invalid
  web1, web2: Preflight: Check the host: its name does not resolve
not reachable (12.3 s)"""


@pytest.mark.parametrize(
    ("name", "story"),
    [
        ("released", RELEASED),
        ("second_unhealthy", SECOND_UNHEALTHY),
        ("refused", REFUSED),
        ("unreachable", UNREACHABLE),
    ],
)
def test_the_printed_story(name: str, story: str) -> None:
    assert tell(name) == story


@pytest.mark.parametrize(
    ("name", "check", "ending"),
    [
        ("nothing", False, "nothing to do (12.3 s)"),
        ("nothing", True, "nothing to do (12.3 s)"),
        ("released", True, "check: 9 changes would be made (12.3 s)"),
        ("first_unhealthy", False, "failed; what served before still serves (12.3 s)"),
        ("does_not_load", False, "refused: nothing was changed (12.3 s)"),
        ("no_hosts", False, "refused: nothing was changed (12.3 s)"),
    ],
)
def test_the_last_line(name: str, check: bool, ending: str) -> None:
    assert tell(name, check=check).splitlines()[-1] == ending


def test_a_check_lists_what_would_change() -> None:
    said = tell("released", check=True)
    assert "  web1         base               2 to change       0.5 s\n    package curl\n    file /etc/hosts\n" in said


def test_verbose_shows_each_change_and_ansibles_words() -> None:
    said = tell("released", verbose=True)
    assert "    file /etc/hosts\n" in said
    assert "PLAY RECAP" in said
    assert "PLAY RECAP" not in tell("released")


def test_secrets_under_no_log_are_not_printed() -> None:
    assert "CANARY" not in tell("hidden", verbose=True)


def test_the_same_failure_of_many_hosts_is_told_once() -> None:
    said = tell("loop")
    assert said.count("error:") == 2
    assert said.count(": the same") == 1
    assert "  web1, web2: Loop: Run: failed with exit code 1" in said or "  web2, web1: " in said


def test_no_colours_without_a_terminal() -> None:
    assert "\x1b" not in tell("second_unhealthy")


def test_colours_on_a_terminal_unless_they_are_unwanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    red = "\x1b[1;31merror:"
    assert red in tell("second_unhealthy", stream=Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert red not in tell("second_unhealthy", stream=Terminal())


def test_markup_and_escapes_of_a_host_are_only_text() -> None:
    stream = Terminal()
    Ui(verbose=True, stream=stream).moment(Output("[bold]x[/bold] [link=http://evil]y[/link] \x1b[2J:smile:"))
    assert "[bold]x[/bold] [link=http://evil]y[/link] :smile:" in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()


@pytest.mark.parametrize(("verbose", "lines"), [(False, 32), (True, 101)])
def test_a_long_explanation_is_cut_in_the_middle(verbose: bool, lines: int) -> None:
    stream = io.StringIO()
    detail = "\n".join(f"line {number}" for number in range(100))
    Ui(verbose=verbose, stream=stream).moment(Failure("web1", "x", "failed", "ill", detail))
    said = stream.getvalue().splitlines()
    assert len(said) == lines
    assert (said[1], said[-1]) == ("  line 0", "  line 99")


def test_an_error_is_one_line_then_detail_then_the_next_step() -> None:
    stream = io.StringIO()
    Ui(stream=stream).error(BadData("no such app", detail="Known: a, b", hint="Try a."))
    assert stream.getvalue() == "error: no such app\n  Known: a, b\n  next: Try a.\n"


def test_long_lines_are_not_broken_in_a_file() -> None:
    stream = io.StringIO()
    Ui(stream=stream).say("x" * 500)
    assert stream.getvalue() == "x" * 500 + "\n"


def test_nobody_reading_any_more_is_no_failure() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as stream:
        screen = Ui(stream=stream)
        screen.say("one")
        screen.say("two")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, writer)  # for what is still in the buffer
        os.close(nowhere)


def test_silence_is_broken_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "SILENCE", 1.0)
    stream = io.StringIO()
    with Ui(stream=stream).pulse(lambda: "web1 nginx: Apply"):
        time.sleep(2.3)
    assert stream.getvalue().splitlines() == [
        "still working: web1 nginx: Apply, 1 s",
        "still working: web1 nginx: Apply, 2 s",
    ]


def test_a_spinner_turns_on_a_terminal_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Ui(stream=stream).pulse(lambda: "web1 nginx: Apply"):
        time.sleep(1.0)
    assert "web1 nginx: Apply" in stream.getvalue()
    assert stream.getvalue().endswith("\x1b[1A\x1b[2K")


def test_a_quick_run_shows_no_spinner() -> None:
    stream = Terminal()
    with Ui(stream=stream).pulse(lambda: "web1"):
        pass
    assert stream.getvalue() == ""


def test_the_state_of_every_app_on_every_host() -> None:
    stream, story = io.StringIO(), Story()
    live = {"release": "3f2a9c1d-a1b2c3", "commit": "3f2a9c1d00ff", "slot": "blue"}
    well = {"live": live, "healthy": True, "certificate_days": 60, "slots": {"blue": "active", "green": "inactive"}}
    well |= {"last": {"event": "activated", "release": "3f2a9c1d-a1b2c3", "by": "ann@desk", "at": "2026-11-21"}}
    ill = {"live": live, "healthy": False, "problem": "500", "slots": {"blue": "active"}}
    ill |= {"processes": {"worker": {"wanted": 2, "running": 1}, "beat": {"wanted": 1, "running": 1}}}
    ill |= {"last": {"event": "not activated", "release": "99999999-a1b2c3", "by": "bob@desk", "why": "no answer"}}
    story.statuses = {
        "web1": {"apps": {"notes": well}, "disk_free_mb": 10_240},
        "web2": {"apps": {"notes": ill, "shop": {"live": None}}},
        "worker1": {"apps": {"notes": {**ill, "slots": {}, "problem": "not all run: worker", "last": None}}},
    }
    Ui(stream=stream).statuses(story)
    _, *rows = [" | ".join(cell.strip() for cell in row.split("  ") if cell) for row in stream.getvalue().splitlines()]
    assert [row.strip(" |") for row in rows] == [
        "web1 | notes | 3f2a9c1d-a1b2c3 | healthy | blue active, green inactive"
        " | activated 3f2a9c1d by ann@desk 2026-11-21 | 60 days left | 10.0 GB",
        "web2 | notes | 3f2a9c1d-a1b2c3 | ill: 500 | blue active, beat 1/1, worker 1/2"
        " | not activated 99999999 by bob@desk: no answer",
        "web2 | shop | no release yet",
        "worker1 | notes | 3f2a9c1d-a1b2c3 | ill: not all run: worker | beat 1/1, worker 1/2",
    ]


def test_the_error_of_a_traceback_is_not_left_out() -> None:
    stream = io.StringIO()
    lines = [f"line {number}" for number in range(100)]
    lines[40] = "ModuleNotFoundError: No module named 'x'"
    Ui(stream=stream).moment(Failure("web1", "x", "failed", "ill", "\n".join(lines)))
    assert "  ModuleNotFoundError: No module named 'x'\n" in stream.getvalue()
    assert "69 lines left out" in stream.getvalue()


def test_the_log_holds_what_the_screen_leaves_out(tmp_path: Path) -> None:
    log, stream = open_log(tmp_path, "deploy", "prod"), io.StringIO()
    assert log
    with log:
        screen = Ui(stream=stream, log=log)
        screen.moment(Output("TASK [x]"))
        screen.moment(Failure("web1", "x", "failed", "ill", "\n".join(f"line {number}" for number in range(100))))
    assert "line 50" not in stream.getvalue()
    told = stream.getvalue().partition("all of it: ")[2].partition(")")[0]
    assert Path(log.name).samefile(told)
    said = Path(log.name).read_text()
    assert "TASK [x]\nerror: web1: x: ill\n" in said
    assert all(f"  line {number}\n" in said for number in range(100))
    assert Path(log.name).stat().st_mode & 0o077 == 0


def test_old_logs_go(tmp_path: Path) -> None:
    (tmp_path / ".run-logs").mkdir()
    for number in range(60):
        (tmp_path / ".run-logs" / f"2020-{number:02}.log").touch()
    log = open_log(tmp_path, "deploy", "prod")
    assert log
    log.close()
    left = sorted(path.name for path in (tmp_path / ".run-logs").iterdir())
    assert len(left) == 50
    assert left[0] == "2020-11.log"

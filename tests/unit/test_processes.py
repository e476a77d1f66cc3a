"""Processes and schedules on a host: the scripts of a release, who uses it, timers, and what systemd says of units."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zarpar_host import machine, processes, releases, run, schedules
from zarpar_host.errors import HostError
from zarpar_host.run import Completed
from zarpar_host.state import Live, Places, State, load, save

SETTINGS: dict[str, Any] = {
    "processes": [
        {"name": "beat", "command": "x", "count": 1, "stop": 300, "single": True},
        {"name": "my-worker-2", "command": "x", "count": 2, "stop": 300, "single": False},
    ],
    "schedules": [{"name": "clean-up", "command": "x", "at": "daily"}],
}
# As `systemctl show` says it: one that runs, one that waits for its next start, one that a signal ended, one not there.
SHOWN = """\
Id=zarpar-shop.blue@worker-1.service
ExecMainCode=0
ExecMainStatus=0
NRestarts=0
ActiveState=active

Id=zarpar-shop.blue@worker-2.service
ExecMainCode=1
ExecMainStatus=127
NRestarts=0
ActiveState=activating

Id=zarpar-shop.blue@worker-3.service
ExecMainCode=2
ExecMainStatus=9
NRestarts=2
ActiveState=activating

Id=zarpar-shop.blue@worker-4.service
ExecMainCode=0
ExecMainStatus=0
NRestarts=1
ActiveState=active

Id=zarpar-shop.blue@worker-5.service
ExecMainCode=0
ExecMainStatus=0
NRestarts=0
ActiveState=inactive
"""


@pytest.fixture
def places(tmp_path: Path) -> Places:
    places = Places("shop", tmp_path)
    places.once.parent.mkdir(parents=True)
    places.once.touch()
    return places


@pytest.fixture
def systemctl(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is asked of systemd, which gives no answer here."""
    asked: list[list[str]] = []

    def ask(argv: list[str], **_options: object) -> Completed:
        asked.append(argv)
        return Completed(0, "", "")

    monkeypatch.setattr(machine, "run", ask)
    return asked


def test_what_a_host_runs(places: Places) -> None:
    assert processes.instances(places, SETTINGS) == ["beat-1", "my-worker-2-1", "my-worker-2-2"]
    assert processes.instances(places, SETTINGS, single=True) == ["beat-1"]
    assert processes.instances(places, SETTINGS, single=False) == ["my-worker-2-1", "my-worker-2-2"]
    assert processes.units(places, "blue", SETTINGS) == [
        "zarpar-shop.blue@beat-1.service",
        "zarpar-shop.blue@my-worker-2-1.service",
        "zarpar-shop.blue@my-worker-2-2.service",
        "zarpar-shop.schedule@clean-up.timer",
    ]
    places.once.unlink()
    assert processes.instances(places, SETTINGS) == ["my-worker-2-1", "my-worker-2-2"]
    assert processes.calendar(places, SETTINGS) == {}
    assert processes.schedulers(SETTINGS) == ["beat-1"], "whichever host this is"


HEALTH = {"path": "/", "status": 200, "host": "a.example.com", "body": "", "timeout": 1, "passes": 2}
HOSTILE = ["a b", "$(id)", "`id`", "'q'", '"q"', "*", "{{ x }}", "; id", "&", "-e", "\\", "é🦀", "%i", "${HOME}", "# x"]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_command_s_words_arrive_as_they_were_written(tmp_path: Path, text: str) -> None:
    word = "'" + text.replace("'", "'\\''") + "'"
    release = {"processes": [{"name": "worker", "command": f"printf '<%s>' {word} \"$SECRET\""}]}
    processes.write(tmp_path, release)
    environment = {"PATH": os.environ["PATH"], "SECRET": text}
    script = tmp_path / "processes" / "worker"
    done = subprocess.run(["/bin/sh", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"<{text}><{text}>"


@pytest.mark.parametrize(
    "command",
    ["sleep 60", "A=${B:-60} && C=1 sleep ${A:-1}", "cd / && sleep $((6*10)) # it's it", "true; exec sleep 60"],
)
def test_signals_reach_the_program(tmp_path: Path, command: str) -> None:
    """Not a shell before it: on a stop systemd signals the main process alone, and kills what that leaves behind."""
    processes.write(tmp_path, {"processes": [{"name": "worker", "command": command}]})
    with subprocess.Popen(["/bin/sh", tmp_path / "processes" / "worker"]) as process:
        try:
            name = Path(f"/proc/{process.pid}/comm")
            wait_until(lambda: name.read_text() == "sleep\n")
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM


def test_command_that_begins_with_a_dash_is_no_option(tmp_path: Path) -> None:
    processes.write(tmp_path, {"schedules": [{"name": "x", "command": "-v; echo $0"}]})
    done = subprocess.run(["/bin/sh", tmp_path / "schedules" / "x"], capture_output=True, text=True, check=False)
    assert "-v: command not found" in done.stderr


def wait_until(true: Any) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def worker(places: Places) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the release `old`, in a folder of its tree."""
    folder = places.release("old") / "src" / "jobs"
    folder.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"], cwd=folder) as process:
        wait_until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")
        yield process
        process.kill()


def test_release_of_a_running_process_is_not_pruned(places: Places, worker: subprocess.Popen[bytes]) -> None:
    assert processes.in_use(places) == {"old"}
    state = State(live=Live("r5", "blue"))
    for name in ("old", "r2", "r3", "r4", "r5"):
        places.release(name).mkdir(parents=True, exist_ok=True)
        (places.home / "venvs" / name).mkdir(parents=True)
        state.note(name, status="good", venv=name)
    places.environment("old").parent.mkdir(parents=True)
    assert releases.prune(places, state, 2) == ["r2", "r3"]
    assert sorted(path.name for path in (places.home / "venvs").iterdir()) == ["old", "r4", "r5"]
    worker.kill()
    worker.wait()
    assert releases.prune(places, state, 2) == ["old"]


def test_what_systemd_says_of_processes(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "run", lambda *_words, **_options: Completed(0, SHOWN, ""))
    names = [f"worker-{number}" for number in range(1, 7)]
    assert machine.Machine(places).processes_ended("blue", names) == {
        "worker-2": "code 127",
        "worker-3": "signal 9",
        "worker-4": "",
        "worker-5": "",
        "worker-6": "",
    }
    units = [places.process_unit("blue", name) for name in names]
    assert [unit for unit in units if unit not in processes.units_down(units)] == [units[0], units[3]]
    settings = {"processes": [{"name": "worker", "count": 4, "single": False}], "schedules": []}
    assert processes.status(places, "blue", settings) == {"worker": {"wanted": 4, "running": 2}}


def test_systemd_that_does_not_answer_says_nothing_of_an_app(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the moment in which it executes itself anew, or the host loses its power: nobody may go back for that."""
    silent = "import sys; sys.exit('Failed to get properties: Connection reset by peer')"
    monkeypatch.setattr(processes, "run", lambda _argv, **options: run.run([sys.executable, "-c", silent], **options))
    host = machine.Machine(places)
    for ask in (host.slot_alive, host.slot_restarted, lambda slot: host.processes_ended(slot, ["worker-1"])):
        with pytest.raises(HostError) as caught:
            ask("blue")
        assert "Connection reset" in caught.value.summary + caught.value.detail


def test_what_runs_elsewhere(places: Places) -> None:
    both = ["beat-1", "my-worker-2-1", "my-worker-2-2"]
    assert (processes.part(places), processes.elsewhere(places, SETTINGS)) == ("", [])
    places.part.write_text("web")
    assert (processes.instances(places, SETTINGS), processes.elsewhere(places, SETTINGS)) == ([], both)
    places.part.write_text("processes")
    assert (processes.instances(places, SETTINGS), processes.elsewhere(places, SETTINGS)) == (both, [])
    places.once.unlink()
    assert processes.elsewhere(places, SETTINGS) == ["beat-1"]


def test_slot_without_a_web_server(places: Places, systemctl: list[list[str]]) -> None:
    """Nothing is started, asked or drained; a web server of a time when the host was another's ends."""
    places.part.write_text("processes")
    places.slot_file("blue").parent.mkdir(parents=True)
    host = machine.machine_for(places)
    check: Any = None
    host.start_slot(Live("r1", "blue"))
    assert systemctl == [["systemctl", "stop", "zarpar-shop@blue.service"]]
    assert places.slot_file("blue").readlink() == places.environment("r1")
    systemctl.clear()
    host.gate("blue", check)
    host.drain_later("blue", 30)
    host.start_later(Live("r2", "blue"))
    assert places.slot_file("blue").readlink() == places.environment("r2")
    assert (host.ask_site(check, True), host.ask_slot("blue", check)) == ("", "")
    assert (host.slot_alive("blue"), host.slot_restarted("blue")) == (True, False)
    assert systemctl == []


@pytest.mark.parametrize(("count", "problem"), [(1, ""), (4, "not all run: worker")])
def test_status_of_a_host_without_web(
    places: Places, monkeypatch: pytest.MonkeyPatch, count: int, problem: str
) -> None:
    """It is as well as its processes are; no slot of a web server is told of."""
    places.part.write_text("processes")
    folder = places.release("r1")
    folder.mkdir(parents=True)
    facts = {"id": "r1", "processes": [{"name": "worker", "count": count, "single": False}], "schedules": []}
    (folder / "release.json").write_text(json.dumps({**facts, "app": {"health": HEALTH}}))
    state = State(live=Live("r1", "blue"))
    state.note("r1", status="good")
    save(places, state)
    monkeypatch.setattr(processes, "run", lambda *_words, **_options: Completed(0, SHOWN, ""))
    monkeypatch.setattr(releases, "run", None)  # a call would fail
    told = releases.status({}, places.root)["apps"]["shop"]
    assert (told["healthy"], told["problem"], told["slots"]) == (not problem, problem, {})
    assert told["processes"]["worker"]["wanted"] == count
    assert releases._serves_now(places) == (not problem)


def test_nothing_is_asked_for_no_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "run", None)  # a call would fail
    assert processes.units_down([]) == []
    assert processes.ended([]) == {}


def timers(places: Places) -> dict[str, str]:
    return {path.name: path.read_text() for path in places.timers.iterdir()}


def test_timers_are_exactly_those_that_are_wanted(places: Places, systemctl: list[list[str]]) -> None:
    host = machine.Machine(places)
    other = places.timers / "zarpar-shop-eu.schedule@a.timer"
    places.timers.mkdir(parents=True)
    other.write_text("of another app\n")
    host.set_timers({"a": "daily", "b": "Mon..Fri 04:00"})
    unit = "zarpar-shop.schedule@{}.timer"
    assert set(timers(places)) == {unit.format("a"), unit.format("b"), other.name}
    assert "\nOnCalendar=Mon..Fri 04:00\n" in timers(places)[unit.format("b")]
    start = ["systemctl", "start", "--no-block", "--", unit.format("a"), unit.format("b")]
    assert systemctl == [["systemctl", "daemon-reload"], start]
    systemctl.clear()
    host.set_timers({"a": "daily", "b": "Mon..Fri 04:00"})
    assert systemctl == [start], "one that somebody stopped is started, and that is all"
    systemctl.clear()
    host.set_timers({"a": "hourly"})
    assert systemctl[0][:3] == ["systemctl", "stop", "--"]
    assert set(systemctl[0][3:]) == {unit.format("a"), unit.format("b")}
    assert systemctl[1:] == [
        ["systemctl", "daemon-reload"],
        ["systemctl", "start", "--no-block", "--", unit.format("a")],
    ]
    assert "\nOnCalendar=hourly\n" in timers(places)[unit.format("a")]
    systemctl.clear()
    host.set_timers({})
    assert set(timers(places)) == {other.name}
    assert systemctl == [["systemctl", "stop", "--", unit.format("a")], ["systemctl", "daemon-reload"]]
    systemctl.clear()
    host.set_timers({})
    assert systemctl == []


def test_a_new_time_makes_up_for_nothing_but_a_boot_does(places: Places, systemctl: list[list[str]]) -> None:
    """systemd runs at once what was due since the stamp of the last run."""
    stamp = places.timer_stamps / "stamp-zarpar-shop.schedule@a.timer"
    stamp.parent.mkdir(parents=True)
    stamp.touch()
    machine.Machine(places).set_timers({"a": "daily"}, boot=True)
    assert stamp.exists()
    machine.Machine(places).set_timers({"a": "daily"})
    assert stamp.exists()
    machine.Machine(places).set_timers({"a": "hourly"})
    assert not stamp.exists()


def test_host_without_units_is_refused_before_anything_is_made(places: Places) -> None:
    processes.check(places, {"processes": [], "schedules": []})
    with pytest.raises(HostError, match="has no units for the processes") as caught:
        processes.check(places, SETTINGS)
    assert "zarpar provision" in caught.value.hint


def test_time_that_systemd_refuses_is_named(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    places.units.mkdir(parents=True)
    (places.units / "zarpar-shop.blue@.service").touch()
    refused = Completed(1, "", "Failed to parse calendar specification")
    monkeypatch.setattr(
        processes, "run", lambda argv, **_options: refused if argv[-1] == "*-13-41" else Completed(0, "", "")
    )
    processes.check(places, SETTINGS)
    with pytest.raises(HostError, match=r"apps\.shop\.schedules\.x\.at: systemd refuses") as caught:
        processes.check(places, {"schedules": [{"name": "x", "command": "x", "at": "*-13-41"}]})
    assert caught.value.kind == "bad_data"


TIMER = "Id=zarpar-shop.schedule@clean-up.timer\nNextElapseUSecRealtime={}\nLastTriggerUSec={}\n"
SERVICE = (
    "Id=zarpar-shop.schedule@clean-up.service\nActiveState={}\nResult={}\nExecMainStatus={}\nExecMainCode={}\n"
    "ExecMainStartTimestamp={}\nExecMainExitTimestamp={}\n"
)
NEXT, LAST = "Sun 2026-11-22 00:00:00 UTC", "Sat 2026-11-21 00:00:00 UTC"


@pytest.mark.parametrize(
    ("timer", "service", "told"),
    [
        ((NEXT, ""), ("inactive", "success", 0, 0, "", ""), ("2026-11-22T00:00:00Z", "", "")),
        (
            (NEXT, LAST),
            ("inactive", "success", 0, 1, LAST, LAST),
            ("2026-11-22T00:00:00Z", "2026-11-21T00:00:00Z", "ok"),
        ),
        ((NEXT, LAST), ("inactive", "success", 0, 0, "", ""), ("2026-11-22T00:00:00Z", "2026-11-21T00:00:00Z", "")),
        (("n/a", LAST), ("activating", "success", 0, 0, LAST, ""), ("", "2026-11-21T00:00:00Z", "running")),
        ((NEXT, LAST), ("failed", "exit-code", 3, 1, LAST, LAST), (..., ..., "failed (code 3)")),
        ((NEXT, LAST), ("failed", "signal", 9, 2, LAST, LAST), (..., ..., "failed (signal 9)")),
    ],
)
def test_schedules_are_listed(
    places: Places, monkeypatch: pytest.MonkeyPatch, timer: Any, service: Any, told: tuple[Any, ...]
) -> None:
    shown = {"timer": TIMER.format(*timer), "service": SERVICE.format(*service)}
    monkeypatch.setattr(processes, "run", lambda argv, **_o: Completed(0, shown[argv[-1].rpartition(".")[2]], ""))
    places.release("one").mkdir(parents=True)
    (places.release("one") / "release.json").write_text(json.dumps({"app": {}, **SETTINGS}))
    state = load(places)
    state.live = Live("one", "blue")
    save(places, state)
    (each,) = schedules.listed({}, places.root)["schedules"]
    assert (each["app"], each["name"], each["at"]) == ("shop", "clean-up", "daily")
    seen = (each["next"], each["last"], each["outcome"])
    assert all(want in (..., got) for want, got in zip(told, seen, strict=True)), seen
    assert schedules.listed({"apps": ["blog"]}, places.root)["schedules"] == []
    places.once.unlink()
    assert schedules.listed({}, places.root)["schedules"] == []


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        ({"Result": "success", "ExecMainStatus": "0", "ExecMainCode": "1"}, 0),
        ({"Result": "exit-code", "ExecMainStatus": "7", "ExecMainCode": "1"}, 7),
        ({"Result": "signal", "ExecMainStatus": "9", "ExecMainCode": "2"}, 137),
        ({"Result": "exec-condition"}, 125),
        ({"Result": "resources", "ExecMainStatus": "0"}, 125),
    ],
)
def test_exit_code_of_a_run(shown: dict[str, str], code: int) -> None:
    assert schedules.exit_code(shown) == code


JOURNALCTL = """#!/bin/sh
case "$*" in
  --sync) ;;
  *--after-cursor=one*_SYSTEMD_INVOCATION_ID=new) [ -e over ] && printf 'second\\n-- cursor: two\\n' ;;
  *--after-cursor*) ;;
  *_SYSTEMD_INVOCATION_ID=new) printf 'first\\n-- cursor: one\\n' ;;
  *) echo 'of another run' ;;
esac
"""
SYSTEMCTL = """#!/bin/sh
case "$1" in
  start) echo new > invocation; sleep 0.4; touch over; exit 1 ;;
  show) echo "Id=zarpar-shop.schedule@x.service"; echo "InvocationID=$(cat invocation)"
        [ -e over ] && printf 'ActiveState=failed\\nResult=exit-code\\nExecMainStatus=3\\nExecMainCode=1\\n'
        echo "ExecMainExitTimestamp=Sat 2026-11-21 00:00:00 UTC" ;;
esac
"""


def test_run_is_followed_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each line once, none of an earlier run, and the command's exit code."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "invocation").write_text("old\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setitem(run.BASE_ENVIRONMENT, "PATH", f"{tmp_path}:{run.PATH}")
    monkeypatch.setattr(schedules, "LOOK_EVERY", 0.1)
    assert schedules.follow("zarpar-shop.schedule@x.service") == 3
    said = capsys.readouterr()
    assert said.out.splitlines() == ["first", "second"]
    assert said.err == "error: failed (code 3)\n"


@pytest.mark.parametrize("words", [[], ["shop"], ["../shop", "x"], ["shop", "nosuch"], ["nosuch", "x"]])
def test_run_of_what_is_not_there(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert schedules.main(words) == 125
    assert "has no schedule" in capsys.readouterr().err or len(words) < 2

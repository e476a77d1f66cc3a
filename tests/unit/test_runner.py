"""Real runs of ansible-playbook on this machine: what reaches the child, what reaches the disk, how a run ends."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ptyprocess import PtyProcess

from zarpar import plan, runner
from zarpar.plan import Choices, Environment, Plan

CANARY = "c4n4ry-d0-n0t-l34k"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a scratch checkout, with private folders made beside it."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "ansible.cfg").write_text("[defaults]\nhost_key_checking = True\n")
    (tmp_path / "hosts.ini").write_text(f"web1 ansible_connection=local ansible_python_interpreter={sys.executable}\n")
    return tmp_path


def planned(checkout: Path, *tasks: dict[str, Any], choices: Choices | None = None, **more: Any) -> Plan:
    """Plan a run of these tasks on this machine."""
    play = {"name": "Play", "hosts": "all", "gather_facts": False, "tasks": [*tasks], **more}
    (checkout / "site.yml").write_text(json.dumps([play]))
    target = Environment("test", checkout / "hosts.ini")
    return plan.playbook(checkout, "site.yml", target, choices or Choices(), os.environ)


def command(*argv: str, **more: Any) -> dict[str, Any]:
    """Return a task that runs a program."""
    return {"name": "Run", "ansible.builtin.command": {"argv": list(argv)}, **more}


def on_disk(folder: Path) -> dict[str, str]:
    """Return the text of every file under a folder; files come and go meanwhile."""
    texts = {}
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            with contextlib.suppress(OSError):
                texts[str(path)] = path.read_text(errors="replace")
    return texts


def test_the_operators_secrets_reach_neither_the_run_nor_the_disk(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    monkeypatch.setenv("ANSIBLE_HOST_KEY_CHECKING", "False")
    events: list[Mapping[str, Any]] = []
    written: dict[str, str] = {}

    def listen(event: Mapping[str, Any]) -> None:
        events.append(event)
        written.update(on_disk(checkout / "scratch"))

    done = runner.run(planned(checkout, command("env")), listen)

    assert done == runner.Finished(0, interrupted=False)
    seen = next(event["event_data"]["res"]["stdout"] for event in events if event["event"] == "runner_on_ok")
    assert "ANSIBLE_HOST_KEY_CHECKING=True" in seen
    assert f"ANSIBLE_CONFIG={checkout}/ansible.cfg" in seen
    assert CANARY not in seen + "".join(written.values())
    assert any(path.endswith("/artifacts/run/command") for path in written), "the test looks in the wrong place"
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == CANARY
    assert os.environ["ANSIBLE_HOST_KEY_CHECKING"] == "False"
    assert capfd.readouterr() == ("", "")


def test_what_is_written_is_private_and_gone_afterwards(checkout: Path) -> None:
    modes: list[int] = []
    left: list[str] = []

    def listen(event: Mapping[str, Any]) -> None:
        modes.extend(path.stat().st_mode & 0o777 for path in (checkout / "scratch").iterdir())
        left.extend(path for path in on_disk(checkout / "scratch") if "job_events" in path and "partial" not in path)

    runner.run(planned(checkout, command("true")), listen)
    assert set(modes) == {0o700}
    assert not left
    assert not list((checkout / "scratch").iterdir())


def test_facts_and_hidden_results_stay_off_the_disk(checkout: Path) -> None:
    found: list[str] = []

    def listen(_event: Mapping[str, Any]) -> None:
        found.extend(path for path, text in on_disk(checkout / "scratch").items() if CANARY in text)

    keep = {"kept": "{{ word }}", "cacheable": True}
    fact = {"name": "Keep", "no_log": True, "ansible.builtin.set_fact": keep}
    hidden = command("printenv", "WORD", no_log=True, environment={"WORD": "{{ kept }}"})
    (checkout / "secrets.yml").write_text(f"word: {CANARY}\n")
    done = runner.run(planned(checkout, fact, hidden, vars_files=["secrets.yml"]), listen)
    assert done.return_code == 0
    assert not found


def test_a_run_that_fails_cleans_up_as_well(checkout: Path) -> None:
    done = runner.run(planned(checkout, command("false")), lambda _event: None)
    assert done == runner.Finished(2, interrupted=False)
    assert not list((checkout / "scratch").iterdir())


def test_a_fault_of_the_listener_does_not_cut_the_run_short(checkout: Path) -> None:
    def listen(_event: Mapping[str, Any]) -> None:
        raise KeyError("a fault")

    with pytest.raises(KeyError, match="a fault"):
        runner.run(planned(checkout, command("touch", str(checkout / "made"))), listen)
    assert (checkout / "made").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_and_its_workers(
    checkout: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By themselves: nothing has to be killed, however slow the machine is."""
    monkeypatch.setattr(runner, "GRACE", 120.0)
    nap = f"3{os.getpid()}.{int(number)}"  # a number of its own, to find the process by
    before = signal.getsignal(number)

    def listen(event: Mapping[str, Any]) -> None:
        if event["event"] == "runner_on_start":
            threading.Timer(1.0, os.kill, (os.getpid(), number)).start()

    done = runner.run(planned(checkout, command("sleep", nap)), listen)
    assert done == runner.Finished(99, interrupted=True), "254: it had to be killed"
    assert not list((checkout / "scratch").iterdir())
    assert signal.getsignal(number) == before
    assert nap not in subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True).stdout


def test_a_second_signal_does_not_wait() -> None:
    stubborn = subprocess.Popen([sys.executable, "-c", "import signal,time;signal.signal(2,print);time.sleep(60)"])
    try:
        interruption = runner.Interruption()
        interruption.process = stubborn.pid
        with interruption.armed():
            assert not interruption()
            os.kill(os.getpid(), signal.SIGINT)
            assert not interruption()
            os.kill(os.getpid(), signal.SIGINT)
            assert interruption()
    finally:
        stubborn.kill()
        stubborn.wait()


def test_a_password_is_typed_for_ansible_and_shown_to_nobody(checkout: Path) -> None:
    (checkout / "password").write_text(CANARY)
    secret = checkout / "secret.yml"
    secret.write_text("word: hello\n")
    vault = Path(sys.executable).with_name("ansible-vault")
    argv = [str(vault), "encrypt", "--vault-password-file", str(checkout / "password"), str(secret)]
    subprocess.run(argv, check=True, capture_output=True)
    (checkout / "password").unlink()
    show = {"name": "Show", "ansible.builtin.debug": {"msg": "{{ word }}"}}
    run = planned(checkout, show, choices=Choices(ask_vault_pass=True), vars_files=[str(secret)])
    events: list[Mapping[str, Any]] = []
    written: list[str] = []

    def listen(event: Mapping[str, Any]) -> None:
        events.append(event)
        written.extend(on_disk(checkout / "scratch").values())

    done = runner.run(run, listen, {run.prompts[0].pattern: CANARY})
    assert done.return_code == 0
    assert "hello" in json.dumps(events)
    assert CANARY not in json.dumps(events) + "".join(written)


def test_the_end_of_a_run_is_not_slept_through(checkout: Path) -> None:
    assert "sleep(self.delayafterclose)" in inspect.getsource(PtyProcess.close), "prompt_close is no longer needed"
    run = Plan((sys.executable, "-c", ""), dict(os.environ), checkout)
    runner.run(run, lambda _event: None)
    assert not hasattr(PtyProcess, "delayafterclose")


def test_a_missing_program_is_an_ordinary_failure(checkout: Path) -> None:
    said: list[str] = []
    run = Plan((str(checkout / "none"),), dict(os.environ), checkout)
    done = runner.run(run, lambda event: said.append(str(event.get("stdout", ""))))
    assert done.return_code == 127
    assert "none" in "".join(said)


def test_plain_programs_get_the_planned_environment_and_folder(checkout: Path) -> None:
    code = "import os, sys; sys.exit(0 if dict(os.environ, LC_CTYPE='') == {'A': '1', 'LC_CTYPE': ''} else 3)"
    assert runner.run_plainly(Plan((sys.executable, "-c", code), {"A": "1"}, checkout)) == 0


def test_ansible_runner_is_not_imported_before_a_run() -> None:
    code = "import sys, zarpar.cli; sys.exit(any(name in sys.modules for name in ('ansible_runner', 'rich', 'yaml')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

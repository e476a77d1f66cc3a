"""The commands, with a runner that plays back recorded runs: what is asked of it, and what comes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from zarpar import cli, lab, plan, runner
from zarpar.plan import Plan
from zarpar.runner import Finished

EVENTS = Path(__file__).parent / "events"


class FakeRunner:
    """Stands in for `runner.run`: plays back a recorded run, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.scenario = "released"
        self.interrupted = False
        self.plans: list[Plan] = []
        self.secrets: list[Mapping[str, str]] = []

    def __call__(
        self, planned: Plan, listener: Callable[[Mapping[str, Any]], None], secrets: Mapping[str, str]
    ) -> Finished:
        self.plans.append(planned)
        self.secrets.append(secrets)
        *events, end = json.loads((EVENTS / f"{self.scenario}.json").read_text())
        for event in events:
            listener(event)
        return Finished(end["return_code"], self.interrupted)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRunner:
    fake = FakeRunner()
    monkeypatch.setattr(runner, "run", fake)
    return fake


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout with two environments, which is the current folder as well."""
    for name in ("lab", "prod"):
        (tmp_path / "inventories" / name).mkdir(parents=True)
        (tmp_path / "inventories" / name / "hosts.yml").write_text("web: {hosts: {web1: {}}}\n")
    monkeypatch.setattr(plan, "find_checkout", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def zarpar(*words: str) -> int:
    """Run a command as from a shell; return its exit code."""
    sys.argv = ["zarpar", *words]
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.fixture(autouse=True)
def argv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [])


@pytest.mark.parametrize(
    ("words", "playbook", "flags"),
    [
        (["deploy", "prod"], "site.yml", []),
        (["provision", "prod"], "playbooks/provision.yml", []),
        (["status", "prod"], "playbooks/status.yml", []),
        (["deploy", "prod", "--check", "-v"], "site.yml", ["--check", "--diff", "-v"]),
        (
            ["deploy", "prod", "--app", "a", "--app", "b", "--ref", "v1", "--limit", "web1"],
            "site.yml",
            ["--limit", "web1", "-e", '{"zarpar_apps":"a,b","zarpar_ref":"v1"}'],
        ),
        (["status", "prod", "--app", "a"], "playbooks/status.yml", ["-e", '{"zarpar_apps":"a"}']),
    ],
)
def test_one_run_of_one_playbook(
    fake: FakeRunner, checkout: Path, words: list[str], playbook: str, flags: list[str]
) -> None:
    assert zarpar(*words) == 0
    (planned,) = fake.plans
    inventory = str(checkout / "inventories" / "prod")
    assert list(planned.argv[1:]) == ["-i", inventory, *flags, str(checkout / playbook)]


@pytest.mark.parametrize(
    ("scenario", "code"),
    [
        ("released", 0),
        ("nothing", 0),
        ("first_unhealthy", 1),
        ("refused", 2),
        ("second_unhealthy", 3),
        ("unreachable", 4),
    ],
)
def test_exit_codes(fake: FakeRunner, scenario: str, code: int) -> None:
    fake.scenario = scenario
    assert zarpar("deploy", "prod") == code


def test_an_interrupted_deploy(fake: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    fake.interrupted = True
    assert zarpar("deploy", "prod") == 130
    assert "interrupted: the same command, run again, finishes the job" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["deploy", "nosuch"], "no environment is called 'nosuch'\n  Known: lab, prod."),
        (["deploy", "./nosuch"], "'./nosuch' is no inventory folder"),
        (["deploy", "prod", "--ref", "a..b"], "--ref: 'a..b' is a range"),
        (["deploy", "prod", "--ref=-x"], "--ref: '-x' is not allowed"),
        (["deploy", "prod", "--ref", "{{ x }}"], "--ref: '{{ x }}' is not allowed"),
        (["deploy", "prod", "--app", "shop{{x}}"], "--app: 'shop{{x}}' is not allowed"),
        (["deploy", "prod", "--app", "../x"], "--app: '../x' is not allowed"),
        (["deploy", "prod", "--limit", "@file"], "--limit: '@file' is not allowed"),
        (["provision", "nosuch"], "no environment"),
        (["status", "nosuch"], "no environment"),
        (["verify", "nosuch"], "no environment"),
        (["deploy"], "Missing argument 'ENV'"),
        (["deploy", "prod", "--no-such-flag"], "No such option"),
        (["nonsense"], "No such command"),
    ],
)
def test_bad_input_gets_one_clear_message(
    fake: FakeRunner, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert zarpar(*words) == 2
    assert said in capsys.readouterr().err
    assert not fake.plans


def test_json_is_all_that_is_on_standard_output(fake: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    fake.scenario = "second_unhealthy"
    assert zarpar("deploy", "prod", "--json") == 3
    said = json.loads(capsys.readouterr().out)
    assert (said["command"], said["environment"], said["exit_code"], said["check"]) == ("deploy", "prod", 3, False)
    assert [(one["host"], one["outcome"]) for one in said["releases"]] == [
        ("web1", "active"),
        ("web2", "not_activated"),
    ]
    assert said["failures"][0]["kind"] == "unhealthy"
    assert [step["play"] for step in said["hosts"]["web1"]] == ["Prepare", "Activate"]


def test_nothing_is_on_standard_output_otherwise(fake: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
    zarpar("deploy", "prod")
    assert capsys.readouterr().out == ""


class TestConfirmation:
    """A person at a terminal is asked before a real environment is changed."""

    @pytest.fixture
    def answers(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        answers: list[str] = []
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("sys.stdin.readline", lambda: answers.pop(0), raising=False)
        return answers

    @pytest.mark.parametrize(
        ("answer", "code", "runs"), [("y\n", 0, 1), ("yes\n", 0, 1), ("\n", 130, 0), ("n\n", 130, 0)]
    )
    def test_the_answer_counts(self, fake: FakeRunner, answers: list[str], answer: str, code: int, runs: int) -> None:
        answers.append(answer)
        assert zarpar("deploy", "prod") == code
        assert len(fake.plans) == runs

    @pytest.mark.usefixtures("answers")
    @pytest.mark.parametrize("flags", [["--yes"], ["-y"], ["--check"]])
    def test_nobody_is_asked(self, fake: FakeRunner, flags: list[str]) -> None:
        assert zarpar("deploy", "prod", *flags) == 0
        assert len(fake.plans) == 1


def test_passwords_are_asked_for_and_given_to_the_run(fake: FakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getpass", lambda question, **_more: f"answer to {question}")
    assert zarpar("deploy", "prod", "-J", "-K") == 0
    assert list(fake.secrets[0].values()) == ["answer to Vault password: ", "answer to sudo password on the hosts: "]
    assert "answer" not in " ".join(fake.plans[0].argv)


@pytest.mark.parametrize(("suite", "code"), [(0, 0), (1, 1), (2, 130), (4, 2), (5, 1)])
def test_verify_runs_the_suite(monkeypatch: pytest.MonkeyPatch, checkout: Path, suite: int, code: int) -> None:
    plans: list[Plan] = []
    monkeypatch.setattr(runner, "run_plainly", lambda planned: plans.append(planned) or suite)
    assert zarpar("verify", "prod") == code
    assert plans[0].argv[-1] == str(checkout / "inventories" / "prod")


class TestLab:
    """The lab's commands, with a lab that only notes what is asked of it."""

    @pytest.fixture(autouse=True)
    def asked(self, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
        asked: list[tuple[Any, ...]] = []
        host = "web: {hosts: {web1: {ansible_host: 10.77.0.101, lab: {debian: 13}}}}\n"
        (checkout / "inventories" / "lab" / "hosts.yml").write_text(host)
        monkeypatch.setattr(lab, "up", lambda path, **_more: asked.append(("up", path)))
        monkeypatch.setattr(lab, "down", lambda path, purge, **_more: asked.append(("down", path, purge)))
        monkeypatch.setattr(lab, "ssh_command", lambda path, host: ["ssh", str(path), host])
        status = lab.HostStatus("web1", "debian:13", "10.77.0.101", running=True, ssh=True, aliases=())
        monkeypatch.setattr(lab, "status", lambda: [status])
        return asked

    @pytest.mark.parametrize("command", ["deploy", "provision"])
    def test_a_run_on_the_lab_starts_it_and_asks_nobody(
        self,
        fake: FakeRunner,
        asked: list[tuple[Any, ...]],
        checkout: Path,
        monkeypatch: pytest.MonkeyPatch,
        command: str,
    ) -> None:
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        assert zarpar(command, "lab") == 0
        assert asked == [("up", checkout / "inventories" / "lab")]
        assert len(fake.plans) == 1

    @pytest.mark.usefixtures("fake")
    @pytest.mark.parametrize("words", [["deploy", "lab", "--check"], ["status", "lab"], ["deploy", "prod"]])
    def test_what_changes_nothing_or_is_no_lab_starts_nothing(
        self, asked: list[tuple[Any, ...]], words: list[str]
    ) -> None:
        assert zarpar(*words) == 0
        assert not asked

    @pytest.mark.usefixtures("fake")
    def test_a_real_environment_may_say_lab(self, asked: list[tuple[Any, ...]], checkout: Path) -> None:
        hosts = "web: {hosts: {web1: {syslab: 1, note: 'our lab: web1'}}}\n"
        (checkout / "inventories" / "prod" / "hosts.yml").write_text(hosts)
        assert zarpar("deploy", "prod") == 0
        assert not asked

    def test_up_and_down(self, asked: list[tuple[Any, ...]], checkout: Path) -> None:
        assert [zarpar("lab", "up"), zarpar("lab", "down"), zarpar("lab", "down", "--all", "--purge")] == [0, 0, 0]
        inventory = checkout / "inventories" / "lab"
        assert asked == [("up", inventory), ("down", inventory, False), ("down", None, True)]

    def test_status(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert zarpar("lab", "status") == 0
        assert "web1  debian:13  10.77.0.101  runs   yes" in capsys.readouterr().err

    def test_ssh(self, monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
        became: list[list[str]] = []
        monkeypatch.setattr(runner, "become", became.append)
        assert zarpar("lab", "ssh", "web1") == 0
        assert became == [["ssh", str(checkout / "inventories" / "lab"), "web1"]]


@pytest.mark.parametrize("words", [[], ["deploy"], ["provision"], ["status"], ["verify"], ["lab"], ["lab", "ssh"]])
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert zarpar(*words, "--help") == 0
    said = capsys.readouterr().out
    assert "Usage: zarpar" in said
    if words and words != ["lab"]:
        assert "Example" in said
        assert f"zarpar {' '.join(words)} " in said


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert zarpar("--version") == 0
    assert capsys.readouterr().out.startswith("zarpar 0.")


def test_help_needs_neither_rich_nor_ansible() -> None:
    code = """
import sys
from zarpar import cli
sys.argv = ["zarpar", "deploy", "--help"]
try:
    cli.main()
except SystemExit:
    sys.exit(any(name in sys.modules for name in ("rich", "ansible", "ansible_runner", "yaml", "zarpar.config")))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0

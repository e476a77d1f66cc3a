"""Commands that go to hosts by ssh: quoting, connection options, and what a host's own part does with them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from zarpar import connection, remote
from zarpar.connection import Server
from zarpar.errors import BadData, ZarparError
from zarpar_host import envfile, oneoff
from zarpar_host.errors import HostError

CHECKOUT = Path(__file__).resolve().parents[2]
HOSTILE = ["a b", "$(id)", "`id`", "'q'", '"q"', "new\nline", "*", "{{ x }}", "; id", "&", "-e", "\\", "é🦀", ""]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="sudo would be asked")


@AS_ROOT
def test_words_arrive_as_they_were() -> None:
    """Through two shells, as over ssh: the login shell's and our own."""
    server = Server("web1", "h", "root", frozenset(), "ssh", (), "")
    command = server.ssh(connection.as_root(["printf", "%s\\0", *HOSTILE]))[-1]
    done = subprocess.run(["/bin/sh", "-c", command], check=True, capture_output=True, text=True)
    assert done.stdout.split("\0")[:-1] == HOSTILE


@AS_ROOT
def test_exit_codes_arrive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of the host's own program, here one that does what its words say; 125 where there is none."""
    launcher = tmp_path / "zarpar-host"
    monkeypatch.setattr(remote, "LAUNCHER", str(launcher))

    def code(*words: str) -> int:
        script = remote.exec_script("0" * 16, "shop", words, ask=False)
        return subprocess.run(["/bin/sh", "-c", script], check=False, capture_output=True).returncode

    assert code("true") == 125
    launcher.write_text('#!/bin/sh\n[ $# = 0 ] && { echo "one of: exec" >&2; exit 2; }\nshift 3\nexec "$@"\n')
    launcher.chmod(0o755)
    assert code("true") == 0
    assert code("sh", "-c", "exit 7") == 7
    assert code("sh", "-c", "kill -9 $$") == 137, "ssh has no code for this, so a shell must stay"


def test_host_keys_are_checked_whatever_the_inventory_says(tmp_path: Path) -> None:
    """And all else that it says of the connection counts, as it does for Ansible."""
    host = {
        "ansible_host": "203.0.113.10", "ansible_port": 2222, "ansible_user": "deploy",
        "ansible_ssh_private_key_file": "{{ inventory_dir }}/key", "ansible_host_key_checking": False,
        "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o 'ProxyCommand=nc %h %p'",
    }  # fmt: skip
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"web": {"hosts": {"web1": host}}}))
    script = (
        "import json, sys; from pathlib import Path; from zarpar import connection, plan\n"
        "here = Path(sys.argv[1]); found = connection.load(plan.find_checkout(), plan.Environment('x', here))\n"
        "print(json.dumps([found.servers[0].ssh('true'), found.servers[0].user]))"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], check=True, capture_output=True, text=True)
    argv, user = json.loads(done.stdout)
    assert user == "deploy"
    assert argv[1:3] == ["-o", "StrictHostKeyChecking=yes"], "ssh takes the first value of an option"
    assert argv[-2:] == ["203.0.113.10", "/bin/sh -c true"]
    assert {"Port=2222", 'User="deploy"', f'IdentityFile="{tmp_path}/key"', "ProxyCommand=nc %h %p"} <= set(argv)


def test_no_two_hosts_share_a_connection(tmp_path: Path) -> None:
    hosts = {name: {"ansible_host": f"203.0.113.{name[-1]}"} for name in ("web1", "web2", "web3")}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"web": {"hosts": hosts}}))
    script = (
        "import json, sys; from pathlib import Path; from zarpar import connection, plan\n"
        "here = plan.Environment('x', Path(sys.argv[1]))\n"
        "found = connection.load(plan.find_checkout(), here, limit='web:!web3')\n"
        "print(json.dumps([[server.ssh('true') for server in those] for those in (found.servers, found.rest)]))"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], check=True, capture_output=True, text=True)
    meant, rest = json.loads(done.stdout)
    assert [argv[-2] for argv in meant] == ["203.0.113.1", "203.0.113.2"]
    assert [argv[-2] for argv in rest] == ["203.0.113.3"]
    paths = {word for argv in meant + rest for word in argv if word.startswith("ControlPath=")}
    assert len(paths) == 3


def test_hosts_that_run_apps_are_the_web_hosts_and_then_the_workers() -> None:
    def server(name: str, *groups: str) -> Server:
        return Server(name, "h", "root", frozenset(groups), "ssh", (), "")

    both, worker, web, other = (
        server("a", "worker", "web"),
        server("b", "worker"),
        server("c", "web"),
        server("d", "db"),
    )
    inventory = connection.Inventory((other, worker, both, web), (), {})
    assert inventory.of_group("web", "worker") == [both, web, worker]
    with pytest.raises(BadData, match="is in the group web or worker"):
        connection.Inventory((other,), (), {}).of_group("web", "worker")


@pytest.mark.parametrize(
    ("said", "wanted"), [("10m", "-10min"), ("2h", "-2hours"), ("yesterday", "yesterday"), ("2026-01-31", "2026-01-31")]
)
def test_since(said: str, wanted: str) -> None:
    assert f"--since={wanted}" in remote.logs_script(remote.Wish(("shop",), since=said))


@pytest.mark.parametrize("since", ["$(id)", "a;b", "x" * 61, "a\nb"])
def test_times_that_are_refused(since: str) -> None:
    with pytest.raises(BadData):
        remote.Wish(("shop",), since=since)


def test_files_of_apps_that_log_to_files() -> None:
    script = remote.logs_script(remote.Wish(("shop", "blog"), ("blog",), lines=5, follow=True))
    assert "/var/log/zarpar/blog/*.log" in script
    assert "zarpar-shop@*.service" in script
    assert "--follow" in script


@pytest.mark.parametrize(
    ("wish", "units"),
    [
        ({}, ["zarpar-shop@*.service", "zarpar-shop.*@*.service"]),
        ({"process": "web"}, ["zarpar-shop@*.service"]),
        ({"process": "my_w"}, ["zarpar-shop.*@my_w-[0-9].service", "zarpar-shop.*@my_w-[0-9][0-9].service"]),
        ({"schedule": "clean-up"}, ["zarpar-shop.schedule@clean-up.service"]),
    ],
)
def test_whose_lines_are_wanted(wish: dict[str, str], units: list[str]) -> None:
    script = remote.logs_script(remote.Wish(("shop",), **wish))  # type: ignore[arg-type]
    wanted = shlex.split(script.partition("then exec ")[2].partition(";")[0])
    assert [word.removeprefix("--unit=") for word in wanted if word.startswith("--unit=")] == units


def test_lines_of_a_worker_are_not_in_files() -> None:
    assert "tail" in remote.logs_script(remote.Wish(("shop",), ("shop",), process="web"))
    assert "tail" not in remote.logs_script(remote.Wish(("shop",), ("shop",), process="worker"))


@pytest.mark.parametrize("name", ["a b", "*", "../x", "-e", "a.b", "x" * 31, "a\n"])
def test_names_that_are_refused(name: str) -> None:
    for wish in ({"process": name}, {"schedule": name}):
        with pytest.raises(BadData, match="is no name"):
            remote.Wish(("shop",), **wish)


@AS_ROOT
class TestSchedules:
    """With an ssh that runs its command here, and the host's real program."""

    @pytest.fixture
    def server(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
        monkeypatch.setattr(remote, "LIBRARY", str(tmp_path))
        ssh = tmp_path / "ssh"
        ssh.write_text('#!/bin/sh\nfor last; do :; done\nexec /bin/sh -c "$last"\n')
        ssh.chmod(0o755)
        return Server("web1", "h", "root", frozenset(), str(ssh), (), "")

    def test_answers_of_all_servers(self, server: Server, tmp_path: Path) -> None:
        program = tmp_path / "v2"
        program.mkdir()
        answer = {"schedules": [{"app": "shop", "name": "x"}]}
        lines = f"import sys\nassert sys.argv[1:] == ['schedules']\nprint('hello')\nprint({json.dumps(answer)!r})\n"
        (program / "__main__.py").write_text(lines + 'assert sys.stdin.readline() == \'{"apps": ["shop"]}\\n\'\n')
        found = remote.schedules([server, server], "v2", ["shop"])
        assert found == [(server, {"app": "shop", "name": "x"})] * 2

    def test_host_s_own_program_answers(self, server: Server, tmp_path: Path) -> None:
        program = tmp_path / "v3"
        program.mkdir()
        start = f"import sys\nsys.path[0] = {str(CHECKOUT / 'plugins')!r}\nfrom zarpar_host.cli import main\n"
        (program / "__main__.py").write_text(f"{start}sys.exit(main(sys.argv[1:]))\n")
        assert remote.schedules([server], "v3", ["no-such-app"]) == []
        assert remote.run_schedule(server, "v3", "no-such-app", "x") == 125

    def test_host_that_does_not_know_schedules(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(remote, "LAUNCHER", "/nonexistent")
        with pytest.raises(ZarparError, match=r"web1: error: this host does not know .*zarpar provision"):
            remote.schedules([server], "none", [])

    def test_host_that_cannot_be_reached(self, server: Server) -> None:
        Path(server.program).write_text("#!/bin/sh\necho 'Connection refused' >&2; exit 255\n")
        with pytest.raises(remote.Unreachable, match="web1"):
            remote.schedules([server], "v1", [])


@pytest.mark.parametrize(
    ("said", "summary", "hint"),
    [
        ("ssh: connect to host h port 22: Connection refused\n", "web1: no SSH connection", "ssh h"),
        ("Host key verification failed.\n", "web1: its SSH host key is not known yet", "fingerprint"),
        ("something new\n", "web1: no SSH connection", "ssh 203.0.113.10"),
    ],
)
def test_why_a_host_cannot_be_reached(said: str, summary: str, hint: str) -> None:
    server = Server("web1", "203.0.113.10", "", frozenset(), "ssh", (), "")
    error = remote.unreachable(server, said)
    assert (error.summary, error.exit_code) == (summary, 4)
    assert hint in error.hint


class TestOneOff:
    """The host's part of `zarpar run`, on files of a test's own."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        tree = tmp_path / "tree"
        (tree / "bin").mkdir(parents=True)
        (tree / "bin" / "tool").write_text("#!/bin/sh\n")
        (tree / "bin" / "tool").chmod(0o755)
        values = {"ZARPAR_RELEASE": str(tree), "PATH": str(tree / "bin"), "SECRET_KEY": 'a "b"\n$c'}
        env = tmp_path / "etc/zarpar/apps/shop/env/aaaaaaaa-bbbbbb"
        env.parent.mkdir(parents=True)
        env.write_text(envfile.dump(values))
        state: dict[str, Any] = {
            "sequence": 1, "live": {"release": "aaaaaaaa-bbbbbb", "slot": "blue"}, "pending": None, "releases": {},
        }  # fmt: skip
        data = tmp_path / "var/lib/zarpar/apps/shop"
        data.mkdir(parents=True)
        (data / "state.json").write_text(json.dumps(state))
        return tmp_path

    @pytest.mark.parametrize("word", ["tool", "bin/tool", "./bin/tool"])
    def test_the_program_is_the_release_s(self, root: Path, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("ROOTS_OWN", "x")
        program, argv, environment = oneoff.command("shop", [word, "--flag"], root)
        assert Path(program).resolve() == root / "tree/bin/tool"
        assert argv == [word, "--flag"]
        assert environment["SECRET_KEY"] == 'a "b"\n$c'  # noqa: S105 - not a real one
        assert environment["TERM"] == "xterm"
        assert "ROOTS_OWN" not in environment

    @pytest.mark.parametrize(
        ("app", "word", "kind"),
        [("shop", "nosuch", "no_program"), ("blog", "tool", "failed"), ("../shop", "tool", "failed")],
    )
    def test_what_cannot_be_run(self, root: Path, app: str, word: str, kind: str) -> None:
        with pytest.raises(HostError) as refused:
            oneoff.command(app, [word], root)
        assert refused.value.kind == kind

    @pytest.mark.parametrize("words", [[], ["shop"], ["shop", "--"], ["shop", "flask", "shell"]])
    def test_wrong_usage(self, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert oneoff.main(words) == 125
        assert "usage:" in capsys.readouterr().err


LOGS = {
    "a": "2026-01-01T00:00:02.5+00:00 late\n  trace\n2026-01-01T00:00:02.4+00:00 early\n2026-01-01T00:00:04Z end",
    "b": "2026-01-01T00:00:01.3+00:00 first\n2026-01-01T00:00:03.0+00:00 third",
}


class _Printer(Server):
    """A server whose log is a text of the test."""

    def ssh(self, remote: str, *options: str) -> list[str]:  # noqa: ARG002 - the script is not run
        return ["printf", "%s", LOGS[self.name]]


@pytest.mark.parametrize("waiting", [0, 1, 2, 1000])
def test_lines_are_told_in_the_order_of_time(monkeypatch: pytest.MonkeyPatch, waiting: int) -> None:
    """The journal's own order is a moment off; a trace stays with its line, and hosts are put together."""
    monkeypatch.setattr(remote, "WAITING", waiting)
    servers = [_Printer(name, "h", "root", frozenset(), "ssh", (), "") for name in LOGS]
    said: list[str] = []
    assert remote.logs(servers, remote.Wish(("shop",)), said.append) == []
    words = [line.rpartition(" ")[2] for line in said]
    wanted = ["first", "early", "late", "trace", "third", "end"]
    assert (words == wanted) == (waiting > 1)
    assert sorted(words) == sorted(wanted)

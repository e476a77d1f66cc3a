"""The commands around a deploy, on a host that is set up by them alone: init, doctor, deploy, logs, run, secrets."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.report import note
from support.world import BIN, LAB_SETTINGS, ROOT, Done, World, clean_environment, until

HOST, ADDRESS, NOBODY = "e2e3", "10.77.0.123", "10.77.0.138"
DOMAIN, RESOLVER = "notes.commands.example.test", "10.77.0.1"
HOSTILE = ["a b", "$(id)", "`id`", "'q'", '"q"', "new\nline", "*", "{{ x }}", "; id", "\\", "é"]
LISTING = "find /etc /usr /opt /srv /root /home /var -xdev -printf '%p %y %m %U:%G %s %T@ %l\\n'"
BY_ITSELF = ("/var/lib/systemd", "/var/log", "/var/cache", "/var/lib/apt", "/var/lib/dpkg")
ECHO = "import json, sys; print(json.dumps(sys.argv[1:]))"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A bare host, and an app's checkout in which `init` was run."""
    hosts = {HOST: {"address": ADDRESS, "names": [DOMAIN]}}
    world = World(tmp_path_factory.mktemp("commands"), "bare", hosts, web=[HOST], db=[HOST])
    app = world.add_app("notes", [DOMAIN])
    world.write()
    world.up()
    world.run_on(HOST, "runuser", "-u", "deploy", "--", "sudo", "true")  # the first time, sudo leaves a file behind
    given = ["--host", ADDRESS, "--domain", DOMAIN, "--user", "deploy"]
    argv = [str(BIN / "zarpar"), "init", *given]
    subprocess.run(argv, cwd=app.folder, check=True, env=clean_environment(), stdin=subprocess.DEVNULL)
    (_inventory(world) / "group_vars/all/lab.yml").write_text(yaml.safe_dump(LAB_SETTINGS))
    app.commit("An inventory")
    yield world
    world.remove()


@pytest.fixture(scope="module")
def bare(world: World) -> dict[str, Done]:
    """What doctor says of the bare host, and whether it left anything there; before the first deploy."""
    before = _files(world)
    said = {"well": _zarpar(world, "doctor", "--resolver", RESOLVER, "--json")}
    said["files"] = Done((), len(_files(world) ^ before), "\n".join(sorted(_files(world) ^ before)), "", 0)
    said["run"] = _zarpar(world, "run", "--", "true")
    return said


@pytest.fixture(scope="module")
def live(world: World, bare: dict[str, Done]) -> World:
    """The host after `deploy` of exactly what `init` wrote."""
    done = world.run(str(ROOT / "scripts" / "deploy"), str(_inventory(world)), "--yes")
    note(f"first deploy of what init wrote: {done.seconds:.1f} s")
    assert done.code == 0, str(done)
    return world


def test_doctor_finds_a_bare_host_well_and_leaves_it_bare(bare: dict[str, Done]) -> None:
    done = bare["well"]
    assert done.code == 0, str(done)
    found = {(one["subject"], one["check"]): one for one in json.loads(done.out)["findings"]}
    assert {one["level"] for one in found.values()} <= {"ok", "warn"}
    for check in ("SSH", "sudo", "system", "memory", "disk", "clock", "apt"):
        assert ("web1", check) in found
    assert found[DOMAIN, "DNS A"]["seen"] == ADDRESS
    assert "answers with this run's token" in found[DOMAIN, "port 80"]["seen"]
    assert bare["files"].code == 0, f"doctor left traces:\n{bare['files'].out}"


def test_run_before_the_first_deploy_says_what_to_do(bare: dict[str, Done]) -> None:
    done = bare["run"]
    assert done.code == 125, str(done)
    assert "next: zarpar" in done.err


def test_what_init_wrote_is_deployed_as_it_is(live: World) -> None:
    assert live.serving(HOST, DOMAIN)
    again = live.run(str(ROOT / "scripts" / "deploy"), str(_inventory(live)), "--yes")
    assert "nothing to do" in again.err, str(again)


def test_doctor_asks_through_nginx_when_it_is_there(live: World) -> None:
    done = _zarpar(live, "doctor", "--resolver", RESOLVER)
    assert done.code == 0, str(done)
    assert "answers with this run's token" in done.err, str(done)
    left = live.run_on(HOST, "find", "/var/www/zarpar/acme", "-type", "f")
    assert left == "", "the token is taken away"


def test_doctor_tells_a_held_lock_and_a_wrong_name(live: World) -> None:
    holder = (
        "import fcntl, time; f = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(f, fcntl.LOCK_EX);"
        " time.sleep(120)"
    )
    live.run_on(HOST, "systemd-run", "--quiet", "--unit=holder", "python3", "-c", holder)
    apps = _inventory(live) / "group_vars/all/apps.yml"
    before = apps.read_text()
    apps.write_text(before.replace(f"domains: [{DOMAIN}]", "domains: [nowhere.commands.example.test]"))
    try:
        done = _zarpar(live, "doctor", "--resolver", RESOLVER)
    finally:
        apps.write_text(before)
        live.run_on(HOST, "systemctl", "stop", "holder")
    assert done.code == 1, str(done)
    assert "python3 (process" in done.err, str(done)
    assert "fail  nowhere.commands.example.test" in done.err, str(done)
    assert f"nowhere.commands.example.test. A {ADDRESS}" in done.err, str(done)


def test_doctor_names_who_has_port_80(live: World) -> None:
    live.run_on(HOST, "systemctl", "stop", "nginx")
    live.run_on(HOST, "systemd-run", "--quiet", "--unit=squatter", "python3", "-m", "http.server", "80")
    until(lambda: "LISTEN" in live.run_on(HOST, "ss", "-ltnH", "sport = :80"), 20, "the squatter listens")
    try:
        done = _zarpar(live, "doctor", "--resolver", RESOLVER)
    finally:
        live.run_on(HOST, "systemctl", "stop", "squatter")
        live.run_on(HOST, "systemctl", "start", "nginx")
    assert done.code == 1, str(done)
    assert "python3 listens on it, and nginx must" in done.err, str(done)


def test_run_is_in_the_live_release_as_its_user(live: World) -> None:
    release = live.serving(HOST, DOMAIN)
    told = "pwd.getpwuid(os.getuid()).pw_name, os.getcwd(), dict(os.environ)"
    script = f"import os, pwd, json; print(json.dumps([{told}]))"
    done = _zarpar(live, "run", "--", "python", "-c", script)
    assert done.code == 0, str(done)
    user, folder, environment = json.loads(done.out)
    assert (user, folder) == ("notes", f"/srv/notes/releases/{release}/src")
    assert environment["ZARPAR_RELEASE_ID"] == release
    assert environment["DATABASE_URL"].startswith("postgresql://notes@/notes")
    assert len(environment["SECRET_KEY"]) >= 48


def test_run_s_words_streams_and_codes_are_the_command_s(live: World) -> None:
    done = _zarpar(live, "run", "--", "python", "-c", ECHO, *HOSTILE)
    assert json.loads(done.out) == HOSTILE, str(done)
    argv = [str(BIN / "zarpar"), "run", str(_inventory(live)), "--", "sh", "-c", "cat; echo no >&2; exit 7"]
    piped = subprocess.run(argv, input="in\n", capture_output=True, text=True, env=clean_environment(), cwd=ROOT)
    assert (piped.returncode, piped.stdout, piped.stderr) == (7, "in\n", "no\n")
    endings = {137: ["sh", "-c", "kill -9 $$"], 127: ["nosuch"], 126: ["./wsgi.py"], 255: ["sh", "-c", "exit 255"]}
    for code, words in endings.items():
        done = _zarpar(live, "run", "--", *words)
        assert done.code == code, str(done)


def test_run_uses_the_app_s_own_tools(live: World) -> None:
    done = _zarpar(live, "run", "--app", "notes", "--host", "web1", "--", "flask", "--app", "wsgi", "db", "current")
    assert done.code == 0, str(done)
    assert "0001" in done.out, str(done)


def test_run_gives_a_terminal_to_who_has_one(live: World) -> None:
    code, said = _on_a_terminal([str(BIN / "zarpar"), "run", str(_inventory(live)), "--", "sh", "-c", "tty; exit 3"])
    assert code == 3, said
    assert "/dev/pts/" in said


def test_run_on_a_host_that_is_not_there(live: World) -> None:
    with _second_host(live):
        done = _zarpar(live, "run", "--host", "web2", "--", "true")
    assert done.code == 4, str(done)
    assert "web2: no SSH connection" in done.err, str(done)


def test_logs_of_all_hosts(live: World) -> None:
    live.visit(HOST, f"https://{DOMAIN}/?a-page-to-look-for")
    done = until(lambda: _with(_zarpar(live, "logs", "-n", "200"), "a-page-to-look-for"), 20, "the visit is logged")
    lines = done.out.splitlines()
    assert all(line.startswith("web1 | ") for line in lines)
    times = [line.split()[2] for line in lines if line.split()[2:][0:1] and line.split()[2].startswith("20")]
    assert times == sorted(times)
    assert _zarpar(live, "logs", "--lines", "3").out.count("\n") == 3
    assert _zarpar(live, "logs", "--since", "2000-01-01", "--app", "notes").out.count("\n") > 3
    bad = _zarpar(live, "logs", "--since", "nonsense")
    assert bad.code == 1, str(bad)
    assert "Failed to parse timestamp" in bad.err


def test_logs_tell_which_host_is_not_there(live: World) -> None:
    with _second_host(live):
        done = _zarpar(live, "logs", "-n", "5")
        only = _zarpar(live, "logs", "-n", "5", "--limit", "web2")
    assert (done.code, only.code) == (3, 4), str(done)
    assert "web1 | " in done.out, str(done)
    assert "error: web2: no SSH connection" in done.err, str(done)


def _hear_ctrl_c() -> None:
    """Tests that a shell started in the background ignore SIGINT, and so would all that they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_logs_follow_until_the_end(live: World) -> None:
    """New lines come as they are written; after Ctrl-C, nothing is left running on the host."""
    argv = [str(BIN / "zarpar"), "logs", str(_inventory(live)), "-f", "-n", "0"]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment(), cwd=ROOT,
        start_new_session=True, preexec_fn=_hear_ctrl_c,
    )  # fmt: skip
    try:
        assert process.stdout
        until(lambda: _followers(live), 60, "the log is followed")
        live.visit(HOST, f"https://{DOMAIN}/?followed")
        until(lambda: "followed" in (process.stdout.readline() if _ready(process.stdout) else ""), 30, "it comes")
    finally:
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == ""
    until(lambda: not _followers(live), 30, "nothing follows the log any more")


def test_a_new_secret_reaches_the_app(live: World) -> None:
    """By a new release of the same commit, with the virtual environment of the one before."""
    before = _zarpar(live, "run", "--", "printenv", "ZARPAR_RELEASE_ID", "ZARPAR_VENV").out.split()
    secret = "canary-of-commands"  # noqa: S105 - that is the point
    argv = [str(BIN / "zarpar"), "secrets", str(_inventory(live)), "set", "SECRET_KEY"]
    done = subprocess.run(argv, input=secret, capture_output=True, text=True, env=clean_environment(), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    deployed = live.run(str(ROOT / "scripts" / "deploy"), str(_inventory(live)), "--yes")
    assert deployed.code == 0, str(deployed)
    shown = _zarpar(live, "run", "--", "printenv", "SECRET_KEY")
    assert shown.out == f"{secret}\n"
    after = _zarpar(live, "run", "--", "printenv", "ZARPAR_RELEASE_ID", "ZARPAR_VENV").out.split()
    assert (after[1], after[0][:8]) == (before[1], before[0][:8])
    assert after[0] != before[0]
    for command, *words in (["secrets", "list"], ["env"], ["logs"], ["doctor", "--resolver", RESOLVER]):
        told = _zarpar(live, command, *words)
        assert told.code == 0, str(told)
        assert secret not in told.text, f"{command} tells a secret"


def _inventory(world: World) -> Path:
    return world.folder / "notes" / "inventories" / "prod"


def _zarpar(world: World, command: str, *words: str) -> Done:
    return world.run(str(BIN / "zarpar"), command, str(_inventory(world)), *words)


def _with(done: Done, text: str) -> Done | None:
    return done if text in done.out else None


def _files(world: World) -> set[str]:
    lines = world.run_on(HOST, "sh", "-c", LISTING, check=False).splitlines()
    return {line for line in lines if not line.startswith(BY_ITSELF) and line.split()[0] != "/var/lib"}


def _followers(world: World) -> bool:
    return world.succeeds_on(HOST, "pgrep", "-f", "journalctl.*--follow")


def _ready(stream: object) -> bool:
    return bool(select.select([stream], [], [], 1)[0])


@contextlib.contextmanager
def _second_host(world: World) -> Iterator[None]:
    """The inventory with another web server, at an address where nobody is."""
    path = _inventory(world) / "hosts.yml"
    before = path.read_text()
    hosts = yaml.safe_load(before)
    hosts["all"]["children"]["web"]["hosts"]["web2"] = {"ansible_host": NOBODY, "ansible_ssh_timeout": 3}
    path.write_text(yaml.safe_dump(hosts))
    try:
        yield
    finally:
        path.write_text(before)


def _on_a_terminal(argv: list[str]) -> tuple[int, str]:
    """Run a command on a terminal of its own; return its exit code and what it wrote there."""
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        argv, stdin=inner, stdout=inner, stderr=inner, env=clean_environment(), cwd=ROOT, start_new_session=True
    )
    os.close(inner)
    said = b""
    deadline = time.monotonic() + 120
    with contextlib.suppress(OSError):  # the other end is closed
        while time.monotonic() < deadline:
            chunk = os.read(outer, 4096)
            if not chunk:
                break
            said += chunk
    os.close(outer)
    return process.wait(timeout=30), said.decode(errors="replace")

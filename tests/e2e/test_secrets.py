"""25 planted secrets turn up nowhere but where they are needed. Runs after (and looks at) the other tests.

A control, planted on purpose in one place of each kind, must be found there by the same search: so each test asserts
that exactly the control was found.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.planted import CONTROL, ELSEWHERE, SHAPES, Finder, HostWatch, Watch, plant, process_that_shows
from support.report import note
from support.site import APP, Site
from support.world import BIN, ROOT, Done, clean_environment

from zarpar import config, lab

ENVIRONMENTS = (f"/etc/zarpar/apps/{APP}/env/", f"/etc/zarpar/apps/{APP}/slots/")
INDEX = ("/etc/zarpar/uv.env", "/opt/zarpar/uv/requirements.txt")
TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - places to search, not to write to
SEARCHED = ("/etc", "/usr", "/opt", "/srv", "/var", "/root", "/home", "/run", *TEMPORARY)
CONTROLLER = (*TEMPORARY, tempfile.gettempdir(), Path.home() / ".ansible", Path.home() / ".cache", ROOT / ".run-logs")
LARGE = 20 * 2**20
STOP = "/run/zarpar-watch-ends"
CONTROL_ENDS = "/tmp/zarpar-control-ends"  # noqa: S108 - here and on the host
CONTROL_UNIT = "/run/systemd/system/zarpar-control.service"
CONTROL_FILES = ("/var/tmp/zarpar-control", "/root/.bash_history")  # noqa: S108
CONTROL_LOG = ROOT / ".run-logs" / "99991231T235959Z-control.log"  # the newest: only old ones are removed
CONTROL_HERE = Path(tempfile.gettempdir()) / "zarpar-control"
KILLED_AFTER = (2.0, 4.0, 7.0)  # seconds
LOUD = """
import os, sys

for name, value in os.environ.items():
    print(name, value, repr(value), file=sys.stderr)
raise SystemExit(repr(dict(os.environ)))
"""


@dataclass
class Runs:
    """What was planted, and what the watches saw. `begin`: where this test's own commands begin in `said`."""

    site: Site
    finder: Finder
    values: dict[str, str]
    watch: Watch
    on_host: HostWatch
    began: float
    said: list[Done]


def _plant(site: Site, values: dict[str, str]) -> None:
    """Put the secrets into the vault, and the references to them into the inventory."""
    env = [name for name in SHAPES if name not in ELSEWHERE]
    kept = {f"vault_{name.lower()}": values[name] for name in env}
    kept["vault_database_password"] = values["DATABASE_PASSWORD"]
    kept["vault_index_url"] = f"https://someone:{values['INDEX_LOGIN']}@127.0.0.1:9/simple/"
    app = site.world.apps[APP]
    reference = "{{{{ vault_{} }}}}".format
    app["env"] = {**app["env"], **{name: reference(name.lower()) for name in env}}
    app["database_password"] = reference("database_password")
    if "redis_password" in config.App.model_fields:
        kept["vault_redis_password"] = values["MIXED_SALT"].split()[1]
        app["redis_password"] = reference("redis_password")
    site.world.settings["python_index_url"] = reference("index_url")
    site.world.keep_secret(kept, values["VAULT_PASSWORD"])
    site.world.write()


@contextlib.contextmanager
def _control(site: Site, value: str) -> Iterator[None]:
    """The control in one place of each kind, and in a process here and there all the while.

    Values go over standard input, but where they are to be seen in `ps`.
    """
    site.world.said.append(Done(("control",), 0, f"prints {value}", "", 0))
    CONTROL_LOG.parent.mkdir(mode=0o700, exist_ok=True)
    CONTROL_LOG.write_text(value)
    CONTROL_HERE.write_text(value)
    for path in CONTROL_FILES:
        site.on_host("sh", "-c", f"cat >{path}; chmod 644 {path}", stdin=value)
    site.on_host("sh", "-c", "systemd-cat", stdin=f"{value}\n")
    unit = f"[Service]\nEnvironment=X={value}\nExecStart=/bin/true\n"
    site.on_host("sh", "-c", f"mkdir -p {Path(CONTROL_UNIT).parent}; cat >{CONTROL_UNIT}", stdin=unit)
    site.on_host("systemctl", "daemon-reload")
    site.on_host("systemctl", "start", Path(CONTROL_UNIT).name)
    Path(CONTROL_ENDS).unlink(missing_ok=True)
    site.on_host("rm", "-f", CONTROL_ENDS)
    here = process_that_shows(value, CONTROL_ENDS)
    there = process_that_shows(value, CONTROL_ENDS, [*lab.exec_command(site.host), "python3"])
    try:
        yield
    finally:
        Path(CONTROL_ENDS).touch()
        site.on_host("touch", CONTROL_ENDS)
    assert here.wait(timeout=60) == 0
    assert there.wait(timeout=60) == 0
    Path(CONTROL_ENDS).unlink()
    site.on_host("rm", CONTROL_ENDS)


@pytest.fixture(scope="module")
def runs(site: Site) -> Iterator[Runs]:
    """Runs of all kinds, with every process and every kept file looked at all the while."""
    values, cores = plant()
    finder = Finder(values, cores)
    watch, on_host = Watch(finder), HostWatch(finder, lab.exec_command(site.host), STOP)
    began, first = time.time() - 1, len(site.world.said)
    head = site.app.head()
    site.on_host("rm", "-f", STOP)
    _plant(site, values)
    with _control(site, values[CONTROL]), watch():
        on_host.start()
        assert site.world.deploy().code == 0
        _talkative(site)
        _failing(site, head)
        _killed(site)
        site.app.reset(head)
        site.again()
        _asked(site)
        site.on_host("touch", STOP)
        on_host.result()
    note(f"{watch.looks} looks at all processes here, {on_host.looks} on the host")
    site.settle()
    yield Runs(site, finder, values, watch, on_host, began, site.world.said[first:])
    CONTROL_LOG.unlink(missing_ok=True)
    CONTROL_HERE.unlink(missing_ok=True)
    site.on_host("rm", "-f", STOP, CONTROL_UNIT, *CONTROL_FILES)
    site.on_host("systemctl", "daemon-reload")


def _talkative(site: Site) -> None:
    site.app.commit("Said aloud")
    site.world.deploy("--verbose", "--check")
    assert site.world.deploy("--verbose", "--json").code == 0
    site.app.commit("Said louder")
    site.world.playbook("site.yml", "--diff", "-vvv", "--check")
    assert site.world.playbook("site.yml", "--diff", "-vvv").code == 0


def _failing(site: Site, head: str) -> None:
    """A release that does not start, one whose dependencies cannot be had, wrong data, a wrong vault password."""
    site.app.commit("Fails", {"wsgi.py": "raise SystemExit('not today')\n"})
    assert site.world.deploy("--verbose").code == 1
    assert site.world.playbook("site.yml", "--diff", "-vvv").code != 0
    # another key for the environment: uv asks the index, which answers nobody, and whose address has a login
    site.app.git("rm", "-q", "uv.lock", "pyproject.toml")
    site.app.commit("Needs the index", {"requirements.txt": "gunicorn\nno-such-package\n"})
    failed = site.world.deploy("--verbose")
    assert failed.code == 1
    assert "could not be installed" in failed.text, str(failed)
    site.app.reset(head)
    app = site.world.apps[APP]
    for wrong in (
        {"domain": "x"},
        {"health": {"timeout": "{{ vault_secret_key }}"}},
        {"migrate": "{{ vault_mixed_salt }}"},
    ):
        site.world.apps[APP] = {**app, **wrong}
        site.world.write()
        assert site.world.deploy("--verbose").code == 2
        assert site.world.playbook("site.yml", "--diff", "-vvv").code != 0
    site.world.apps[APP] = app
    site.world.write()


def _killed(site: Site) -> None:
    for seconds in KILLED_AFTER:
        site.app.commit(f"Killed after {seconds} s")
        running = site.world.begin_deploy("--verbose")
        time.sleep(seconds)
        site.world.said.append(running.kill())


def _asked(site: Site) -> None:
    for command in (
        ("status", "--json"),
        ("releases", "--json"),
        ("env", "--json"),
        ("logs", "--lines", "1000"),
        ("doctor", "--json"),
        ("secrets", "list"),
        ("run", "--", "true"),
    ):
        site.world.zarpar(*command)
    site.world.playbook("playbooks/status.yml", "-vvv")


def test_the_app_has_them(runs: Runs) -> None:
    """The counter-check: they are secrets that are really used, as they were planted."""
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    done = runs.site.world.run(*_run(runs.site, "python", "-c", code))
    runs.site.world.said.pop()  # what was asked for on purpose
    found = json.loads(done.out)
    for name in SHAPES:
        if name not in ELSEWHERE:
            assert found[name] == runs.values[name], name


def _run(site: Site, *words: str) -> tuple[str, ...]:
    return (str(BIN / "zarpar"), "run", str(site.world.inventory), "--app", APP, "--", *words)


def test_not_in_any_output(runs: Runs) -> None:
    assert len(runs.said) > 20
    for done in runs.said:
        wanted = {CONTROL} if done.argv == ("control",) else set()
        assert runs.finder.find(done.text) == wanted, f"{done.argv} printed a secret"


def test_not_in_the_run_logs(runs: Runs) -> None:
    logs = [path for path in (ROOT / ".run-logs").glob("*.log") if path.stat().st_mtime >= runs.began]
    assert len(logs) > 5
    found = {path.name: runs.finder.find(path.read_bytes()) for path in logs}
    assert {name for name, its in found.items() if its} == {CONTROL_LOG.name}, found
    assert all(path.stat().st_mode & 0o077 == 0 for path in logs if "control" not in path.name)


def test_not_in_any_process(runs: Runs) -> None:
    assert runs.watch.looks > 100
    assert runs.on_host.looks > 100
    assert set(runs.watch.arguments) == {CONTROL}, runs.watch.arguments
    assert set(runs.watch.environments) == {CONTROL}, runs.watch.environments
    assert set(runs.on_host.arguments) == {CONTROL}, runs.on_host.arguments
    assert set(runs.on_host.environments) == {CONTROL}, runs.on_host.environments


def test_not_in_what_ansible_runner_keeps_while_it_runs(runs: Runs) -> None:
    assert set(runs.watch.files) == {CONTROL}, runs.watch.files


def test_not_in_the_journal(runs: Runs) -> None:
    assert runs.finder.find(runs.site.on_host("journalctl", "--no-pager", "--output=export")) == {CONTROL}


def test_not_in_units(runs: Runs) -> None:
    shown = runs.site.on_host("systemctl", "show", "*", Path(CONTROL_UNIT).name, "--no-pager", check=False)
    assert runs.finder.find(shown) == {CONTROL}
    texts = runs.site.on_host("sh", "-c", "cat /etc/systemd/system/*.service /run/systemd/*/*.service", check=False)
    assert runs.finder.find(texts) == {CONTROL}


def _found_on_host(runs: Runs, *before: str) -> dict[str, set[str]]:
    """Path on the host to the secrets in it; the patterns come over standard input, so they are in no `ps`."""
    argv = [*before, "grep", "-rsaFoHZ", "-f", "-", *SEARCHED]
    found: dict[str, set[str]] = {}
    for line in runs.site.on_host(*argv, stdin=runs.finder.patterns(), check=False).splitlines():
        path, _, form = line.partition("\0")
        found.setdefault(path, set()).update({runs.finder.name_of(form)} - {""})
    return found


def test_only_in_their_own_files_on_the_host(runs: Runs) -> None:
    """The app's in its environment files, the index's login where uv and pip read it; a journal is looked at above."""
    runs.site.settle()
    found = _found_on_host(runs)
    for path in CONTROL_FILES:
        assert found.pop(path) == {CONTROL}
    for path, names in found.items():
        if path.startswith(("/var/log/journal/", "/run/log/journal/", CONTROL_UNIT)):
            assert names <= {CONTROL}, path
            continue
        allowed = {"INDEX_LOGIN"} if path in INDEX else {name for name in SHAPES if name not in ELSEWHERE}
        assert path in INDEX or path.startswith(ENVIRONMENTS), f"{path} holds {names}"
        assert names <= allowed, f"{path} holds {names}"
        assert runs.site.on_host("stat", "-L", "-c", "%a %U", path).split() == ["600", "root"]
    assert any(path.startswith(ENVIRONMENTS) for path in found)
    assert set(INDEX) & set(found)


def test_nobody_else_can_read_them_on_the_host(runs: Runs) -> None:
    found = _found_on_host(runs, "runuser", "-u", "nobody", "--")
    assert found.pop(CONTROL_FILES[0]) == {CONTROL}
    found.pop(CONTROL_UNIT, None)
    assert found == {}


def test_not_in_records_and_names_of_files(runs: Runs) -> None:
    records = runs.site.on_host(
        "sh",
        "-c",
        f"cat /var/lib/zarpar/apps/*/* /srv/{APP}/releases/*/release.json; find /srv /var/lib/zarpar /etc/zarpar",
    )
    assert "release.json" in records
    assert '"live"' in records
    assert runs.finder.find(records) == set()
    assert runs.finder.find(records + runs.values[CONTROL]) == {CONTROL}


def test_not_in_files_of_the_controller(runs: Runs) -> None:
    """Whatever was written since they were planted, in the folders for temporary files, caches and run logs."""
    found, looked = {}, 0
    own = str(runs.site.world.folder)  # the inventory with its vault, and the password's file
    for path in _written_since(runs.began):
        with contextlib.suppress(OSError):
            looked += 1
            names = runs.finder.find(path.read_bytes())
            if names and path != Path(own, "vault-password"):
                found[str(path)] = names
    note(f"{looked} files of the controller")
    assert set(found) == {str(CONTROL_HERE), str(CONTROL_LOG)}, found


def _written_since(begin: float) -> Iterator[Path]:
    for top in dict.fromkeys(map(Path, CONTROLLER)):
        for folder, folders, names in os.walk(top):
            folders[:] = [name for name in folders if not os.path.ismount(f"{folder}/{name}")]
            for name in names:
                path = Path(folder) / name
                with contextlib.suppress(OSError):
                    facts = path.lstat()
                    if path.is_file() and not path.is_symlink() and facts.st_mtime >= begin and facts.st_size < LARGE:
                        yield path


def test_a_login_in_a_repository_s_address_is_refused(runs: Runs) -> None:
    app = runs.site.world.apps[APP]
    address = f"https://x-access-token:{runs.values['INDEX_LOGIN']}@example.test/me/app.git"
    runs.site.world.apps[APP] = {**app, "source": {"repo": address}}
    runs.site.world.write()
    try:
        for done in (runs.site.world.deploy("--verbose"), runs.site.world.playbook("site.yml", "-vvv", "--diff")):
            assert done.code != 0
            assert "an address with a login" in done.text
            assert runs.finder.find(done.text) == set()
    finally:
        runs.site.world.apps[APP] = app
        runs.site.world.write()


def test_what_an_app_says_of_its_own_secrets_stays_on_the_host(runs: Runs) -> None:
    """The last one, because the app itself writes them into its journal: no run shows them, nor keeps them."""
    site = runs.site
    head = site.app.head()
    build = site.world.apps[APP].get("build", [])
    site.app.commit("Says all", {"wsgi.py": LOUD})
    said = [site.world.deploy("--verbose"), site.world.playbook("site.yml", "-vvv", "--diff")]
    site.world.apps[APP]["build"] = ["python wsgi.py"]
    site.world.write()
    said += [site.world.deploy("--verbose"), site.world.deploy("--json")]
    site.world.apps[APP]["build"] = build
    site.world.write()
    newest = max((ROOT / ".run-logs").glob("*.log"), key=lambda path: path.stat().st_mtime)
    for done in said:
        assert done.code != 0
        assert runs.finder.find(done.text) == set(), f"{done.argv} printed a secret"
    assert "****" in said[0].text
    assert runs.finder.find(newest.read_bytes()) == set()
    assert runs.finder.find(site.on_host("journalctl", "--no-pager", "--output=export")) > {CONTROL}
    site.app.reset(head)
    assert site.world.deploy().code == 0


def test_secrets_are_set_without_being_seen(runs: Runs) -> None:
    """`zarpar secrets set` takes any of them by standard input, and says nothing of it."""
    environment = {**clean_environment(), **runs.site.world.environment}
    for name in list(SHAPES)[::4]:
        done = subprocess.run(
            [str(BIN / "zarpar"), "secrets", str(runs.site.world.inventory), "set", f"vault_{name.lower()}"],
            input=runs.values[name],
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert runs.finder.find(done.stdout + done.stderr) == set()

"""A small world of a test's own: an inventory, apps with Git repositories, lab hosts; and the real commands on it."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from zarpar import lab
from zarpar.vault import with_value

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "notes"
BIN = Path(sys.executable).parent
LIMIT = 900  # seconds for one command: only what hangs for good takes so long
MINE = ("ANSIBLE_", "ZARPAR_", "PYTEST_", "GIT_")  # an outer run's settings are not the tests'
# What the lab is that a rented server is not, for an inventory that `init` wrote: its key, its host keys, its
# certificate authority.
LAB_SETTINGS = {
    "ansible_ssh_private_key_file": "{{ inventory_dir }}/../../../.lab/key",
    "ansible_ssh_common_args": "-o IdentitiesOnly=yes"
    " -o 'UserKnownHostsFile=\"{{ inventory_dir }}/../../../.lab/known_hosts\"'",
    "certbot_server": "https://pki:14000/dir",
    "certbot_ca_file": "../../../.lab/pebble-api-ca.pem",
}


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str
    seconds: float

    @property
    def text(self) -> str:
        return self.out + self.err

    def __str__(self) -> str:
        return f"{' '.join(self.argv)}\nexit code {self.code} after {self.seconds:.1f} s\n{self.text}"

    def errors(self) -> list[str]:
        """The lines that tell a person what went wrong."""
        return [line for line in self.err.splitlines() if line.startswith("error:")]


@dataclass
class Running:
    """A command that goes on."""

    argv: tuple[str, ...]
    process: subprocess.Popen[str]
    begin: float

    def wait(self, limit: float = LIMIT) -> Done:
        out, err = self.process.communicate(timeout=limit)
        return Done(self.argv, self.process.returncode, out, err, time.monotonic() - self.begin)

    def kill(self) -> Done:
        """Kill it and all that it started, at once: no handler runs."""
        tree = descendants(self.process.pid)
        for pid in [self.process.pid, *tree]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        out, err = self.process.communicate()
        return Done(self.argv, self.process.returncode, out, err, time.monotonic() - self.begin)


@dataclass
class App:
    """An app's Git repository: a copy of the example app, or of nothing."""

    folder: Path

    def git(self, *words: str) -> str:
        identity = ["-c", "user.name=Tess", "-c", "user.email=tess@example.test"]
        argv = ["git", *identity, "-C", str(self.folder), *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True, env=clean_environment()).stdout.strip()

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text()
        assert old in text, f"{name} does not hold {old!r} (any more): mend this test"
        (self.folder / name).write_text(text.replace(old, new, 1))

    def commit(self, subject: str, files: Mapping[str, str] | None = None) -> str:
        """Commit all that differs (and these files); return the first eight digits."""
        self.write(files or {})
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "--message", subject)
        return self.head()

    def head(self) -> str:
        return self.git("rev-parse", "HEAD")[:8]

    def reset(self, commit: str) -> None:
        """Make the tree what it was at a commit, as a commit of its own: releases are named by commits."""
        self.git("rm", "-rfq", "--ignore-unmatch", ".")
        self.git("checkout", "--quiet", commit, "--", ".")
        self.git("clean", "-fdq")
        self.commit(f"As {commit} again")


@dataclass
class World:
    """hosts: name -> {address, debian, names}; web and db: the groups; groups: others; vault: values kept encrypted."""

    folder: Path
    name: str
    hosts: dict[str, dict[str, Any]]
    web: list[str]
    db: list[str]
    apps: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    is_lab: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    said: list[Done] = field(default_factory=list)

    @property
    def inventory(self) -> Path:
        return self.folder / "inventories" / self.name

    @property
    def root_certificate(self) -> Path:
        return self.folder / ".lab" / "pebble-root.pem"

    # -- what is described ---------------------------------------------------------------------------------------

    def write(self) -> None:
        """Write the inventory as it is described now."""
        everywhere = self.inventory / "group_vars" / "all"
        everywhere.mkdir(parents=True, exist_ok=True)
        common = everywhere / "00_common.yml"
        common.unlink(missing_ok=True)
        common.symlink_to(ROOT / "group_vars" / "all.yml")
        folder = "{{ inventory_dir }}/../../.lab"
        known = f"-o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o 'UserKnownHostsFile=\"{folder}/known_hosts\"'"
        groups = {
            "all": {
                "vars": {
                    "ansible_user": "deploy",
                    "ansible_ssh_private_key_file": f"{folder}/key",
                    "ansible_ssh_common_args": known,
                    **self.variables,
                },
                "children": {
                    group: {"hosts": {name: self._host_variables(name) for name in names}}
                    for group, names in {"web": self.web, "db": self.db, **self.groups}.items()
                },
            }
        }
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(groups, sort_keys=False))
        (everywhere / "apps.yml").write_text(yaml.safe_dump({"apps": self.apps}, sort_keys=False))
        acme = {"certbot_server": "https://pki:14000/dir", "certbot_ca_file": "../../.lab/pebble-api-ca.pem"}
        (everywhere / "settings.yml").write_text(yaml.safe_dump({**acme, **self.settings}))

    def _host_variables(self, name: str) -> dict[str, Any]:
        host = self.hosts[name]
        described = {"debian": host.get("debian", 13), "names": host.get("names", [])}
        return {"ansible_host": host["address"], **({"lab": described} if self.is_lab else {})}

    def keep_secret(self, values: Mapping[str, str], word: str = "open sesame") -> None:
        """Write these variables into vault.yml, encrypted; the commands of this world can open it."""
        password = self.folder / "vault-password"
        password.write_text(f"{word}\n")
        password.chmod(0o600)
        vault = self.inventory / "group_vars" / "all" / "vault.yml"
        vault.parent.mkdir(parents=True, exist_ok=True)
        self.environment["ANSIBLE_VAULT_PASSWORD_FILE"] = str(password)
        argv = [str(BIN / "ansible-vault"), "encrypt", "--output", str(vault), "-"]
        subprocess.run(argv, input=_vault_text(values), text=True, check=True, env=self._environment(), timeout=60)

    def add_app(self, name: str, domains: Sequence[str], **keys: Any) -> App:
        """Describe an app like the example, and copy the example into a repository of its own."""
        app = self.copy(EXAMPLE, name)
        self.apps[name] = {
            "domains": list(domains),
            "source": {"path": f"../../{name}"},
            "database": "postgres",
            "migrate": "flask --app wsgi db upgrade",
            "health": {"path": "/health", "timeout": 15},
            "static": {"/static/": "notes/static"},
            "uploads": {"/uploads/": "uploads"},
            "env": {"SECRET_KEY": "not-a-secret", "TRUSTED_PROXIES": 1},
            **keys,
        }
        return app

    def copy(self, folder: Path, name: str) -> App:
        """Copy an app of this checkout into a repository of its own; it is not described yet."""
        app = App(self.folder / name)
        listed = subprocess.run(["git", "ls-files"], cwd=folder, check=True, capture_output=True, text=True)
        for entry in listed.stdout.splitlines():
            (app.folder / entry).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / entry, app.folder / entry)
        app.git("init", "--quiet", "--initial-branch=main")
        app.commit("The app")
        return app

    # -- hosts ---------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Make the hosts anew."""
        self.remove()
        lab.up(self.inventory, say=print)

    def remove(self) -> None:
        """Remove the hosts, also those that a killed run of the same tests left."""
        lab.hosts.remove([host.name for host in lab.status() if host.name in self.hosts])
        if lab.has_hosts(self.inventory):
            lab.down(self.inventory, say=print)

    def run_on(self, host: str, *argv: str, stdin: str = "", check: bool = True) -> str:
        """Run a command as root inside a host, past SSH; return what it printed."""
        done = subprocess.run(
            [*lab.exec_command(host), *argv],
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT,
        )
        assert not check or done.returncode == 0, f"{host}: {' '.join(argv)[:200]}: {done.stdout}{done.stderr}"
        return done.stdout

    def succeeds_on(self, host: str, *argv: str, stdin: str = "") -> bool:
        argv = (*lab.exec_command(host), *argv)
        return subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=LIMIT).returncode == 0

    def state(self, host: str, app: str) -> dict[str, Any]:
        """The host's state.json of an app."""
        text = self.run_on(host, "cat", f"/var/lib/zarpar/apps/{app}/state.json")
        found: dict[str, Any] = json.loads(text)
        return found

    def live(self, host: str, app: str) -> str:
        """The release that the host's own record calls live."""
        facts = self.state(host, app)["live"]
        return str(facts["release"]) if facts else ""

    def events(self, host: str, app: str) -> list[dict[str, Any]]:
        """The host's history of an app, oldest first."""
        text = self.run_on(host, "cat", f"/var/lib/zarpar/apps/{app}/history.jsonl", check=False)
        return [json.loads(line) for line in text.splitlines()]

    # -- commands ------------------------------------------------------------------------------------------------

    def deploy(self, *words: str) -> Done:
        """scripts/deploy, as a person runs it."""
        return self.run(str(ROOT / "scripts" / "deploy"), str(self.inventory), *words)

    def begin_deploy(self, *words: str) -> Running:
        return self.begin(str(ROOT / "scripts" / "deploy"), str(self.inventory), *words)

    def zarpar(self, command: str, *words: str) -> Done:
        return self.run(str(BIN / "zarpar"), command, str(self.inventory), *words)

    def playbook(self, name: str, *words: str) -> Done:
        """Plain ansible-playbook, without the wrapper."""
        return self.run(str(BIN / "ansible-playbook"), "-i", str(self.inventory), str(ROOT / name), *words)

    def run(self, *argv: str) -> Done:
        return self._heard(self.begin(*argv).wait())

    def begin(self, *argv: str) -> Running:
        process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        return Running(argv, process, time.monotonic())

    def _heard(self, done: Done) -> Done:
        self.said.append(done)
        return done

    def _environment(self) -> dict[str, str]:
        return {**clean_environment(), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "NO_COLOR": "1", **self.environment}

    # -- visitors ------------------------------------------------------------------------------------------------

    def visit(self, host: str, url: str, *, post: Any = None, limit: float = 15) -> tuple[int, str]:
        """Ask a host for a page as a browser does that trusts only the lab's CA; return status and body.

        post: what to send as JSON, instead of asking only. Raises OSError (ssl.SSLError among them) when nothing
        comes back.
        """
        scheme, _, rest = url.partition("://")
        domain, _, path = rest.partition("/")
        address = self.hosts[host]["address"]
        link = http.client.HTTPConnection(domain, timeout=limit)
        link.sock = socket.create_connection((address, 443 if scheme == "https" else 80), timeout=limit)
        with contextlib.closing(link):
            if scheme == "https":
                trust = ssl.create_default_context(cafile=str(self.root_certificate))
                link.sock = trust.wrap_socket(link.sock, server_hostname=domain)
            headers = {"Connection": "close"}
            if post is None:
                link.request("GET", f"/{path}", headers=headers)
            else:
                link.request("POST", f"/{path}", json.dumps(post), headers | {"Content-Type": "application/json"})
            answer = link.getresponse()
            return answer.status, answer.read().decode(errors="replace")

    def serving(self, host: str, domain: str, *, tls: bool = True) -> str:
        """The release that answers a visitor; asserts that it is well."""
        status, body = self.visit(host, f"{'https' if tls else 'http'}://{domain}/health")
        assert status == 200, f"{domain}/health answered {status}: {body[:300]}"
        return str(json.loads(body)["release"])


def _vault_text(values: Mapping[str, str]) -> str:
    """As `zarpar secrets` writes it: a text that holds Jinja's marks is tagged."""
    return "".join(with_value("", name, value) for name, value in values.items())


def clean_environment() -> dict[str, str]:
    """The environment of the tests without what is meant for the tests themselves."""
    return {name: value for name, value in os.environ.items() if not name.startswith(MINE)}


def descendants(pid: int) -> list[int]:
    """All processes that a process started, and those that they started."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                after_name = (folder / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(after_name[1]), []).append(int(folder.name))
    found, todo = [], [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def until(check: Callable[[], Any], seconds: float, what: str) -> Any:
    """Ask again and again until the answer is true, and return it; fail after a generous while."""
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.1)


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """Hold a name machine-wide: two runs of the same tests would share hosts, so the second one waits."""
    with (Path(tempfile.gettempdir()) / f"zarpar-tests-{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield

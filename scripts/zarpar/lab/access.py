"""How people and Ansible get into the hosts: the checkout's own key, known host keys, Pebble's certificates."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

from zarpar.lab import hosts
from zarpar.lab.inventory import PKI_NAME, Inventory, LabError, LabHost
from zarpar.lab.machine import run, wait_until

USER = "deploy"
_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
_LET_IN = """\
set -eu
umask 077
cd ~deploy
mkdir -p .ssh
touch .ssh/authorized_keys
grep -qxF "$1" .ssh/authorized_keys || echo "$1" >> .ssh/authorized_keys
chown -R deploy:deploy .ssh
"""
_PEBBLE_CERTIFICATES = """\
import json, ssl, urllib.request
ca = open("/etc/pebble/ca.pem").read()
trust = ssl.create_default_context(cadata=ca)
root = urllib.request.urlopen("https://localhost:15000/roots/0", timeout=5, context=trust)
print(json.dumps({"pebble-api-ca.pem": ca, "pebble-root.pem": root.read().decode()}))
"""


def prepare_key(inventory: Inventory) -> None:
    """Make the checkout's key for its lab hosts, once."""
    inventory.folder.mkdir(mode=0o700, exist_ok=True)
    if not _key(inventory).exists():
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "zarpar-lab", "-f", str(_key(inventory))])


def ssh_command(inventory: Inventory, host: LabHost, *options: str) -> list[str]:
    """Return the argument list that logs in to a host; only the host key in `.lab/known_hosts` is accepted."""
    folder = str(inventory.folder).replace("%", "%%")
    identity = ["-o", f'IdentityFile="{folder}/key"', "-o", "IdentitiesOnly=yes"]
    strict = ["-o", f'UserKnownHostsFile="{folder}/known_hosts"', "-o", "StrictHostKeyChecking=yes"]
    return ["ssh", *identity, *strict, *options, f"{USER}@{host.address}"]


def can_log_in(inventory: Inventory, host: LabHost) -> bool:
    """Tell whether a login works."""
    quick = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=2")
    return run([*ssh_command(inventory, host, *quick), "true"], check=False).returncode == 0


def admit(inventory: Inventory, host: LabHost) -> None:
    """Put the checkout's key into a host and learn the host's key, both past SSH; then wait for the login."""
    inside = hosts.exec_command(host.name)
    public = _key(inventory).with_suffix(".pub").read_text().strip()
    run([*inside, "sh", "-c", _LET_IN, "sh", public])
    if not wait_until(lambda: run([*inside, "test", "-s", _HOST_KEY], check=False).returncode == 0, 30):
        raise LabError(f"{host.name} made no SSH host key", hint="zarpar lab down, then zarpar lab up, makes it anew.")
    _learn(inventory, host, run([*inside, "cat", _HOST_KEY]).stdout)
    if not wait_until(lambda: can_log_in(inventory, host), 60):
        raise LabError(
            f"{host.name} runs, but a login by SSH fails",
            hint=f"Try: {shlex.join(ssh_command(inventory, host, '-v'))}",
        )


def forget(inventory: Inventory) -> None:
    """Forget the host keys of the inventory's hosts."""
    _rewrite(inventory, [host.name for host in inventory.hosts], [])


def fetch_certificates(inventory: Inventory) -> None:
    """Write `pebble-root.pem` (for visitors) and `pebble-api-ca.pem` (for ACME clients); Pebble must be running.

    Pebble makes a new root at each start, so this is done every time.
    """
    fetch = [*hosts.exec_command(PKI_NAME), "python3", "-c", _PEBBLE_CERTIFICATES]
    answers: list[str] = []

    def ask() -> bool:
        done = run(fetch, check=False)
        answers.append(done.stdout if done.returncode == 0 else "")
        return done.returncode == 0

    if not wait_until(ask, 30):
        raise LabError(f"Pebble does not answer on {PKI_NAME}", hint="zarpar lab down, then zarpar lab up, helps.")
    for name, text in json.loads(answers[-1]).items():
        _write(inventory.folder / name, text)


def _key(inventory: Inventory) -> Path:
    return inventory.folder / "key"


def _learn(inventory: Inventory, host: LabHost, public: str) -> None:
    kind, key = public.split()[:2]
    _rewrite(inventory, [host.name], [f"{host.address},{host.name} {kind} {key}"])


def _rewrite(inventory: Inventory, gone: list[str], new: list[str]) -> None:
    path = inventory.folder / "known_hosts"
    before = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in before if line.split()[0].rpartition(",")[2] not in gone]
    if path.exists() or new:
        _write(path, "".join(f"{line}\n" for line in kept + new))


def _write(path: Path, text: str) -> None:
    """Replace a file at once: another process may be reading it."""
    if path.exists() and path.read_text() == text:
        return
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)

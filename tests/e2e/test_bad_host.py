"""Hosts that cannot be deployed to: one clear message, an exit code that tells, and nothing changed on them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.world import Done, World

HOST, ADDRESS, NOBODY = "e2e2", "10.77.0.122", "10.77.0.139"
LISTING = "find /etc /usr /opt /srv /root /home /var -xdev -printf '%p %y %m %U:%G %s %T@ %l\\n'"
BY_ITSELF = ("/var/lib/systemd", "/var/log", "/var/cache", "/var/lib/apt", "/var/lib/dpkg")


@pytest.fixture
def untouched(bare: World) -> Iterator[World]:
    """The bare host, which must have no other files afterwards."""
    before = _files(bare)
    yield bare
    assert _files(bare) - before == set()


@pytest.fixture
def new_connections() -> Iterator[str]:
    """A home folder of its own, so that no connection of an earlier run is used again; its path must be short."""
    home = tempfile.mkdtemp(prefix="zt-")
    yield home
    shutil.rmtree(home)


def test_wrong_host_key(untouched: World, new_connections: str) -> None:
    """The host at this address is not the one that is known: an impostor, for all that one can tell."""
    known = untouched.folder / ".lab" / "known_hosts"
    right = known.read_text()
    other = Path(new_connections) / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    key = " ".join(other.with_suffix(".pub").read_text().split()[:2])
    known.write_text(f"{ADDRESS},{HOST} {key}\n")
    untouched.environment["HOME"] = new_connections
    try:
        done = untouched.deploy()
    finally:
        known.write_text(right)
        del untouched.environment["HOME"]
    assert done.code == 4, str(done)
    _says_once(done, "host key is not the one that is known")


def test_unknown_host_key(untouched: World, new_connections: str) -> None:
    known = untouched.folder / ".lab" / "known_hosts"
    right = known.read_text()
    known.write_text("")
    untouched.environment["HOME"] = new_connections
    try:
        done = untouched.deploy()
    finally:
        known.write_text(right)
        del untouched.environment["HOME"]
    assert done.code == 4, str(done)
    _says_once(done, "host key is not known yet")


def test_nobody_there(bare: World) -> None:
    _answers_as(bare, {"address": NOBODY}, code=4, words="no SSH connection")


def test_name_that_does_not_resolve(bare: World) -> None:
    _answers_as(bare, {"address": "nowhere.example.invalid"}, code=4, words="its name does not resolve")


def test_login_refused(untouched: World) -> None:
    untouched.variables = {"ansible_user": "stranger"}
    _answers_as(untouched, {}, code=4, words="SSH login refused")


def test_login_without_sudo(bare: World) -> None:
    bare.run_on(HOST, "sh", "-c", "id peon || useradd --create-home peon && cp -rT ~deploy/.ssh ~peon/.ssh")
    bare.run_on(HOST, "sh", "-c", "chown -R peon:peon ~peon/.ssh")
    before = _files(bare)
    bare.variables = {"ansible_user": "peon"}
    _answers_as(bare, {}, code=2, words="no right to become root with sudo")
    assert _files(bare) - before == set()


@pytest.mark.parametrize(("pretty", "text"), [
    ("Debian GNU/Linux 11 (bullseye)", 'ID=debian\nVERSION_ID="11"\nVERSION_CODENAME=bullseye\n'),
    ("Ubuntu 24.04.1 LTS", 'ID=ubuntu\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\n'),
])  # fmt: skip
def test_unsupported_system(bare: World, pretty: str, text: str) -> None:
    bare.run_on(HOST, "cp", "-P", "/etc/os-release", "/run/os-release.right")
    bare.run_on(HOST, "rm", "/etc/os-release")
    bare.run_on(HOST, "tee", "/etc/os-release", stdin=f'PRETTY_NAME="{pretty}"\n{text}')
    before = _files(bare)
    try:
        _answers_as(bare, {}, code=2, words=f"unsupported system: {pretty}")
        assert _files(bare) - before == set()
    finally:
        bare.run_on(HOST, "cp", "-P", "--remove-destination", "/run/os-release.right", "/etc/os-release")


def test_check_on_a_bare_host_changes_nothing(untouched: World) -> None:
    """--check tells what would be done where nothing is installed yet."""
    done = untouched.deploy("--check")
    assert done.code == 0, str(done)
    assert "would be made" in done.err, str(done)
    assert "to be released" in done.err, str(done)


def _answers_as(world: World, host: dict[str, str], *, code: int, words: str) -> None:
    """Deploy to the host as described differently; the description is put right again."""
    right = world.hosts[HOST]
    world.hosts[HOST] = {**right, **host}
    world.write()
    try:
        done = world.deploy()
    finally:
        world.hosts[HOST], world.variables = right, {}
        world.write()
    assert done.code == code, str(done)
    _says_once(done, words)


def _says_once(done: Done, words: str) -> None:
    assert len(done.errors()) == 1, str(done)
    assert words in done.errors()[0], str(done)
    assert "next: " in done.err, str(done)
    assert "Traceback" not in done.text, str(done)


def _files(world: World) -> set[str]:
    """Every file of the host with its mode, owner, size and time; not what the system writes by itself."""
    lines = world.run_on(HOST, "sh", "-c", LISTING, check=False).splitlines()
    return {line for line in lines if not line.startswith(BY_ITSELF) and line.split()[0] != "/var/lib"}

"""The lab for real: two hosts of its own, logged in to, broken and removed. Needs root or sudo."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from zarpar import lab
from zarpar.lab.machine import as_root, podman, run, wait_until

OLD, NEW = "labold", "labnew"
HOSTS = """\
all:
  children:
    web:
      hosts:
        labold: {ansible_host: 10.77.0.131, lab: {debian: 12, names: [old.lab.example.test]}}
        labnew: {ansible_host: 10.77.0.132, lab: {debian: 13, names: [new.lab.example.test]}}
"""


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("a checkout") / "inventories" / "lab"
    folder.mkdir(parents=True)
    (folder / "hosts.yml").write_text(HOSTS)
    lab.up(folder, say=print)
    yield folder
    lab.down(folder, print)


def up(inventory: Path) -> list[str]:
    said: list[str] = []
    lab.up(inventory, say=said.append)
    return said


def ssh(inventory: Path, host: str, *command: str) -> subprocess.CompletedProcess[str]:
    argv = [*lab.ssh_command(inventory, host), "-o", "BatchMode=yes", "-o", "ConnectTimeout=3", *command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def inside(host: str, *command: str) -> subprocess.CompletedProcess[str]:
    argv = [*lab.exec_command(host), *command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


def state(host: str) -> lab.HostStatus:
    return next(one for one in lab.status() if one.name == host)


@pytest.mark.parametrize(("host", "version"), [(OLD, "12"), (NEW, "13")])
def test_a_login_with_sudo_on_the_right_debian(inventory: Path, host: str, version: str) -> None:
    assert ssh(inventory, host, "id", "-un").stdout == "deploy\n"
    assert ssh(inventory, host, "sudo", "-n", "id", "-u").stdout == "0\n"
    assert f'VERSION_ID="{version}"' in ssh(inventory, host, "cat", "/etc/os-release").stdout
    assert ssh(inventory, host, "systemctl", "is-system-running", "--wait").stdout == "running\n"


@pytest.mark.parametrize("host", [OLD, NEW])
def test_it_is_a_bare_server(inventory: Path, host: str) -> None:
    assert inside(host, "sh", "-c", "command -v nginx psql certbot uv pip").stdout == ""
    listening = inside(host, "ss", "-Hltn").stdout.split()
    assert {word for word in listening if word.endswith(":22")} == {"0.0.0.0:22", "[::]:22"}


@pytest.mark.parametrize("host", [OLD, NEW])
def test_it_cannot_reach_the_machine(inventory: Path, host: str) -> None:
    """Only what belongs to the host's own network is writable; whether it could set the clock is read, never tried."""
    assert inside(host, "test", "-w", "/proc/sys/vm/swappiness").returncode == 1
    assert inside(host, "test", "-w", "/proc/sys/net/core/somaxconn").returncode == 0
    caps = inside(host, "grep", "CapBnd", "/proc/1/status").stdout.split()[1]
    sys_time = 25
    assert not int(caps, 16) >> sys_time & 1


@pytest.mark.parametrize("host", [OLD, NEW])
def test_the_sandbox_is_real(inventory: Path, host: str) -> None:
    """A lab that ignored it would let every test of a unit's sandbox pass."""
    run = ["systemd-run", "--quiet", "--wait", "--pipe"]
    assert inside(host, *run, "-p", "ProtectSystem=strict", "touch", "/usr/x").returncode != 0
    assert inside(host, *run, "-p", "ProtectHome=yes", "ls", "/home/deploy").returncode != 0


def test_names_lead_to_hosts(inventory: Path) -> None:
    for name, address in [("new.lab.example.test", "10.77.0.132"), (OLD, "10.77.0.131"), ("pki", "10.77.0.2")]:
        assert inside(OLD, "getent", "ahostsv4", name).stdout.startswith(f"{address} ")


def test_the_certificate_authority_answers_on_its_name(inventory: Path) -> None:
    folder = inventory.parents[1] / ".lab"
    ask = "import ssl, sys, urllib.request as r\n"
    ask += "trust = ssl.create_default_context(cadata=sys.argv[1])\n"
    ask += "print(r.urlopen('https://pki:14000/dir', timeout=5, context=trust).read().decode())"
    answer = inside(NEW, "python3", "-c", ask, (folder / "pebble-api-ca.pem").read_text())
    assert "newOrder" in answer.stdout, answer.stderr
    assert (folder / "pebble-root.pem").read_text().startswith("-----BEGIN CERTIFICATE-----")


def test_up_again_does_nothing(inventory: Path) -> None:
    assert up(inventory) == [f"The lab was up: {OLD} (10.77.0.131), {NEW} (10.77.0.132)"]


def test_two_at_once(inventory: Path) -> None:
    with ThreadPoolExecutor() as pool:
        for said in pool.map(up, [inventory, inventory]):
            assert said[-1].startswith("The lab was up")


def test_another_host_key_is_refused(inventory: Path) -> None:
    known = inventory.parents[1] / ".lab" / "known_hosts"
    before = known.read_text()
    keys = [line.split()[2] for line in before.splitlines()]
    known.write_text(before.replace(keys[0], keys[1]))
    try:
        assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in ssh(inventory, OLD, "true").stderr
        known.write_text("")
        assert "Host key verification failed" in ssh(inventory, OLD, "true").stderr
        assert known.read_text() == ""
    finally:
        known.write_text(before)


def test_up_learns_lost_host_keys(inventory: Path) -> None:
    known = inventory.parents[1] / ".lab" / "known_hosts"
    before = known.read_text()
    known.unlink()
    up(inventory)
    assert sorted(known.read_text().splitlines()) == sorted(before.splitlines())


def test_a_reboot_keeps_keys_and_files(inventory: Path) -> None:
    inside(NEW, "touch", "/root/kept")
    pid = inside(NEW, "systemctl", "show", "--value", "--property=UserspaceTimestampMonotonic").stdout
    lab.reboot(NEW)
    assert ssh(inventory, NEW, "sudo", "ls", "/root/kept").returncode == 0
    assert inside(NEW, "systemctl", "show", "--value", "--property=UserspaceTimestampMonotonic").stdout != pid


def test_a_power_cut_and_up(inventory: Path) -> None:
    inside(NEW, "touch", "/root/kept")
    lab.power_cut(NEW)
    assert not state(NEW).running
    assert f"Starting {NEW} again" in up(inventory)
    assert ssh(inventory, NEW, "sudo", "ls", "/root/kept").returncode == 0


def test_hosts_killed_together_with_podmans_own_processes(inventory: Path) -> None:
    """As when everything is killed that a session started: podman says for ever that the host runs."""
    asked = run(podman("container", "inspect", NEW, "--format={{.State.ConmonPid}} {{.State.Pid}}")).stdout.split()
    for pid in asked:
        run(as_root(["kill", "-KILL", pid]))
    assert wait_until(lambda: not state(NEW).running, 10)
    assert "running" in run(podman("container", "inspect", NEW, "--format={{.State.Status}}")).stdout
    said = up(inventory)
    assert f"Removed what was killed and left behind: {NEW}" in said
    assert inside(NEW, "systemctl", "is-active", "ssh").stdout == "active\n"
    assert ssh(inventory, NEW, "id", "-un").stdout == "deploy\n"


def test_a_cut_network_and_its_return(inventory: Path) -> None:
    lab.cut_network(OLD)
    assert ssh(inventory, OLD, "true").returncode == 255
    assert not state(OLD).ssh
    lab.restore_network(OLD)
    assert ssh(inventory, OLD, "true").returncode == 0
    lab.cut_network(OLD)
    up(inventory)
    assert state(OLD).ssh


def test_new_names_without_a_new_host(inventory: Path) -> None:
    inside(NEW, "touch", "/root/kept")
    hosts = inventory / "hosts.yml"
    hosts.write_text(HOSTS.replace("new.lab", "other.lab"))
    try:
        up(inventory)
        assert state(NEW).aliases == ("other.lab.example.test",)
        assert inside(OLD, "getent", "ahostsv4", "other.lab.example.test").stdout.startswith("10.77.0.132 ")
        assert inside(NEW, "ls", "/root/kept").returncode == 0
    finally:
        hosts.write_text(HOSTS)
        up(inventory)


def test_another_checkout_shares_a_host_that_is_the_same(inventory: Path, tmp_path: Path) -> None:
    other = tmp_path / "inventories" / "lab"
    other.mkdir(parents=True)
    (other / "hosts.yml").write_text(HOSTS)
    lab.up(other, hosts=[NEW], say=print)
    assert ssh(other, NEW, "true").returncode == 0
    assert ssh(inventory, NEW, "true").returncode == 0


def test_another_checkout_cannot_take_an_address(inventory: Path, tmp_path: Path) -> None:
    other = tmp_path / "inventories" / "lab"
    other.mkdir(parents=True)
    (other / "hosts.yml").write_text("all: {hosts: {thief: {ansible_host: 10.77.0.131, lab: {debian: 13}}}}")
    with pytest.raises(lab.LabError, match=r"another host of the lab has 10\.77\.0\.131"):
        lab.up(other, say=print)


def test_down_removes_its_hosts_and_no_others(inventory: Path) -> None:
    others = {one.name for one in lab.status()} - {OLD, NEW, "pki"}
    lab.down(inventory, print)
    assert {one.name for one in lab.status()} - {"pki"} == others
    assert (inventory.parents[1] / ".lab" / "known_hosts").read_text() == ""
    assert up(inventory)[-1].startswith("The lab is up")
    assert ssh(inventory, NEW, "true").returncode == 0

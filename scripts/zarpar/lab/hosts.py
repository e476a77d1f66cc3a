"""The containers of the lab: made, started, broken and removed one by one, by name."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from zarpar.lab import images
from zarpar.lab.inventory import PKI_ADDRESS, PKI_NAME, LabError, LabHost
from zarpar.lab.machine import BRIDGE, NETWORK, as_root, podman, run, show_json, wait_until

_CAPABILITIES = "SYS_ADMIN,NET_ADMIN,NET_RAW,SYS_PTRACE"
_ADDRESS_LABEL = "zarpar.lab.address"
_DEBIAN_LABEL = "zarpar.lab.debian"
_INVENTORY_LABEL = "zarpar.lab.inventory"
_CLEANUP_SECONDS = 15
LOST = "lost"
_READY_SECONDS = 60


@dataclass(frozen=True)
class Container:
    """A lab host as it is; `inventory` is the one that it was made for.

    `address` is the one that it was made with, `plugged` the one that it has, which is none when it does not run.
    """

    name: str
    image: str
    state: str
    pid: int
    address: str
    plugged: str
    names: frozenset[str]
    debian: int
    inventory: str

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def half_made(self) -> bool:
        """It was never started, or its removal was cut."""
        return self.state not in {"running", "exited", "stopped", LOST}

    @property
    def lost(self) -> bool:
        """Its processes were killed together with podman's own, which therefore never saw it end: no way back."""
        return self.state == LOST

    def fits(self, host: LabHost) -> bool:
        return (self.debian, self.address) == (host.debian, str(host.address))


def every() -> dict[str, Container]:
    """Return all containers of the lab by name."""
    names: list[str] = []
    for _ in range(5):
        names = run(podman("ps", "--all", "--format={{.Names}}")).stdout.split()
        with suppress(LabError):  # another run removed one of them just now
            found = show_json(podman("container", "inspect", *names)) if names else []
            return {container.name: container for container in map(_container, found)}
        time.sleep(0.2)
    return {container.name: container for name in names for container in _inspect(name)}


def remove_lost() -> list[str]:
    """Remove the hosts that were killed past podman, whoever made them, and return their names.

    podman would believe for ever that they run, and their ends of the network would go on answering.
    """

    def lost() -> list[str]:
        return sorted(name for name, found in every().items() if found.lost)

    # A host that has just ended looks the same until podman has seen it.
    if wait_until(lambda: not lost(), _CLEANUP_SECONDS):
        return []
    gone = lost()
    remove(gone)
    return gone


def _inspect(name: str) -> list[Container]:
    """Inspect one container; none when a removal was cut, so that podman lists it and does not know it."""
    done = run(podman("container", "inspect", name), check=False)
    if done.returncode == 0:
        return [_container(found) for found in json.loads(done.stdout)]
    if "not known" in done.stderr or "no such container" in done.stderr.lower():
        return []
    raise LabError(f"podman cannot tell of {name}", detail=done.stderr.strip())


def get(name: str) -> Container:
    """Return one container, or raise a LabError."""
    container = every().get(name)
    if container is None:
        raise LabError(f"no host of the lab is called {name}", hint="Start it with: zarpar lab up")
    return container


def make(host: LabHost, inventory: str) -> None:
    """Make and start a host; its image exists."""
    labels = [f"--label={_DEBIAN_LABEL}={host.debian}", f"--label={_INVENTORY_LABEL}={inventory}"]
    options = [*labels, *(f"--network-alias={name}" for name in host.names)]
    _run_container(host.name, host.address, images.host_image(host.debian), options)


def make_pki() -> None:
    """Make and start the certificate authority; its image exists."""
    _run_container(PKI_NAME, PKI_ADDRESS, images.pki_image(), [])


def rename(host: LabHost) -> None:
    """Give a running host the names of the inventory; its network is away for a moment."""
    run(podman("network", "disconnect", NETWORK, host.name))
    aliases = [f"--alias={name}" for name in host.names]
    run(podman("network", "connect", *_place(host.address), *aliases, NETWORK, host.name))


def start_container(name: str) -> None:
    """Start a stopped container."""
    _insist(podman("start", name))


def remove(names: Sequence[str]) -> None:
    """Remove containers and what is in them; those that are gone already do not matter."""
    if names:
        _insist(podman("rm", "--force", "--ignore", "--time=0", *names))


def _insist(argv: list[str]) -> None:
    """Run podman again while it fails: its own cleanup of a container that has just ended may be under way."""
    if not wait_until(lambda: run(argv, check=False).returncode == 0, _CLEANUP_SECONDS):
        run(argv)


def exec_command(host: str) -> list[str]:
    """Return the argument list to put before a command that is to run as root inside the host, past SSH."""
    return podman("exec", "--interactive", host)


def power_cut(host: str) -> None:
    """Kill all processes of a host at once. Its unsynced data survives, unlike in a real power cut."""
    run(podman("kill", "--signal=KILL", host))
    wait_until(lambda: not get(host).running, _READY_SECONDS)


def start(host: str) -> None:
    """Start a stopped host and wait until it lets people in."""
    start_container(host)
    container = get(host)
    if not wait_until(lambda: _lets_people_in(container), _READY_SECONDS):
        raise LabError(f"{host} was started, but its SSH server does not answer")


def reboot(host: str) -> None:
    """Shut a host down in good order, start it, and wait until it lets people in.

    What a host does on `systemctl reboot` inside is only the first half: a container stays off.
    """
    run(podman("stop", "--time=60", host))
    start(host)


def cut_network(host: str) -> None:
    """Unplug a host from the lab's network."""
    _set_link(host, "down")


def restore_network(host: str) -> None:
    """Plug it in again."""
    _set_link(host, "up")


def answers_ssh(address: str) -> bool:
    """Tell whether an SSH server greets at this address."""
    try:
        with socket.create_connection((address, 22), timeout=1) as connection:
            return connection.recv(8).startswith(b"SSH-")
    except OSError:
        return False


def _lets_people_in(container: Container) -> bool:
    booting = [*exec_command(container.name), "test", "-e", "/run/nologin"]
    return answers_ssh(container.address) and run(booting, check=False).returncode == 1


def _run_container(name: str, address: IPv4Address, image: str, options: Sequence[str]) -> None:
    """Start a container as a VPS, never a privileged one, and see that it got the network that it must have.

    SYS_ADMIN is what makes systemd's sandbox options real inside; without it they are silently ignored.
    """
    place = [f"--name={name}", f"--hostname={name}", f"--network={NETWORK}", *_place(address)]
    vps = [f"--label={_ADDRESS_LABEL}={address}", "--systemd=always", f"--cap-add={_CAPABILITIES}", "--pull=never"]
    remove([name])
    run(podman("run", "--detach", *place, *vps, *options, image))
    plugged = get(name).plugged
    if plugged != str(address):
        remove([name])
        raise LabError(f"podman gave {name} the address {plugged or '(none)'} instead of {address}")


def _place(address: IPv4Address) -> list[str]:
    """Return the options for an address; its hardware address never changes, or neighbours would go on with the old."""
    return [f"--ip={address}", "--mac-address=02:7a:" + ":".join(f"{byte:02x}" for byte in address.packed)]


def _container(found: dict[str, Any]) -> Container:
    labels = found["Config"].get("Labels") or {}
    status = found["State"]["Status"]
    network = found["NetworkSettings"]["Networks"].get(NETWORK, {})
    aliases = set(network.get("Aliases") or []) - {found["Id"][:12], found["Name"]}
    return Container(
        name=found["Name"],
        image=found["ImageName"],
        state=LOST if status == "running" and not _lives(found["State"]["Pid"], found["Id"]) else status,
        pid=found["State"]["Pid"],
        address=labels.get(_ADDRESS_LABEL, ""),
        plugged=network.get("IPAddress", ""),
        names=frozenset(aliases),
        debian=int(labels.get(_DEBIAN_LABEL, 0)),
        inventory=labels.get(_INVENTORY_LABEL, ""),
    )


def _lives(pid: int, container_id: str) -> bool:
    """Tell whether a process is there and is that container's: numbers are used again."""
    try:
        return container_id in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False


def _set_link(host: str, state: str) -> None:
    """Set the machine's end of a host's cable, after proof that it is one of the lab's.

    `ip` asks the kernel about the namespace that it entered; /sys there would show the machine's own links.
    """
    container = get(host)
    if not container.running or container.pid <= 1:
        raise LabError(f"{host} is not running")
    enter = as_root(["nsenter", f"--target={container.pid}", "--net"])
    inside = show_json([*enter, "ip", "-json", "link", "show", "eth0"])
    cables = show_json(["ip", "-json", "link", "show", "master", BRIDGE])
    ours = [c["ifname"] for c in cables if c.get("ifindex") == inside[0].get("link_index")]
    if len(ours) != 1 or not ours[0].startswith("veth"):
        raise LabError(f"the network cable of {host} is not one of {BRIDGE}: nothing was touched")
    run(as_root(["ip", "link", "set", ours[0], state]))

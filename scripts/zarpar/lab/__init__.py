"""The lab: throw-away Debian servers on this machine, in podman, with a certificate authority of their own.

`up`, `down`, `status` and `ssh_command` are for the commands; the rest is for tests, which break hosts on purpose.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zarpar.lab import access, hosts, images, inventory, machine
from zarpar.lab.hosts import Container, cut_network, exec_command, power_cut, reboot, restore_network, start
from zarpar.lab.inventory import PKI_NAME, Inventory, LabError, LabHost, has_hosts
from zarpar.lab.machine import Say

__all__ = [
    "HostStatus",
    "LabError",
    "cut_network",
    "down",
    "exec_command",
    "has_hosts",
    "power_cut",
    "reboot",
    "restore_network",
    "ssh_command",
    "start",
    "status",
    "up",
]


@dataclass(frozen=True)
class HostStatus:
    """One host of the lab as it is; `aliases` lead to it in the lab's DNS."""

    name: str
    image: str
    address: str
    running: bool
    ssh: bool
    aliases: tuple[str, ...]


def up(inventory_path: Path, *, hosts: list[str] | None = None, say: Say) -> None:
    """Start the inventory's hosts (or only some) and the certificate authority; what already runs is left alone."""
    wanted = inventory.read(inventory_path)
    chosen = wanted.select(hosts)
    start_time = time.monotonic()
    with machine.locked(say):
        machine.prepare(say)
        changed = _bring_up(wanted, chosen, say)
    names = ", ".join(f"{host.name} ({host.address})" for host in chosen)
    if changed:
        say(f"The lab is up after {time.monotonic() - start_time:.0f} s: {names}")
    else:
        say(f"The lab was up: {names}")


def down(inventory_path: Path | None, say: Say, *, purge: bool = False) -> None:
    """Remove the inventory's hosts, or with None all hosts, the network and what else ran.

    The images are kept, and so is the checkout's key; `purge` removes everything.
    """
    wanted = inventory.read(inventory_path) if inventory_path else None
    with machine.locked(say):
        gone = []
        if machine.was_ever_used():
            machine.prepare(say)
            gone = _take_down(wanted if not purge else None)
        if wanted:
            access.forget(wanted)
        if purge:
            say("Removing the images of the lab")
            machine.remove_everything()
            if wanted:
                shutil.rmtree(wanted.folder, ignore_errors=True)
    say(f"Removed from the lab: {', '.join(gone)}" if gone else "Nothing of the lab was running")


def status() -> list[HostStatus]:
    """Return every host of the lab on this machine, the certificate authority among them.

    After a reboot of the machine that is none, until `up` starts them again.
    """
    if not machine.is_prepared():
        return []
    return [
        HostStatus(
            name=found.name,
            image=found.image,
            address=found.address,
            running=found.running,
            ssh=found.running and hosts.answers_ssh(found.address),
            aliases=tuple(sorted(found.names)),
        )
        for found in sorted(hosts.every().values(), key=lambda found: found.name)
    ]


def ssh_command(inventory_path: Path, host: str) -> list[str]:
    """Return the argument list that logs in to a host of the inventory."""
    wanted = inventory.read(inventory_path)
    return access.ssh_command(wanted, wanted.host(host))


def _bring_up(wanted: Inventory, chosen: tuple[LabHost, ...], say: Say) -> bool:
    there = hosts.every()
    if any(found.lost for found in there.values()):
        say(f"Removed what was killed and left behind: {', '.join(hosts.remove_lost())}")
        there = hosts.every()
    access.prepare_key(wanted)
    for host in chosen:
        _refuse_a_clash(host, wanted, there.values())
    new = [host for host in chosen if _must_be_made(host, there.get(host.name))]
    pki = there.get(PKI_NAME)
    pki_is_new = pki is None or pki.half_made
    if new or pki_is_new:
        images.ensure({host.debian for host in new}, pki=pki_is_new, say=say)
    if pki_is_new:
        say("Starting the certificate authority (pki)")
        hosts.make_pki()
    elif pki and not pki.running:
        hosts.start_container(PKI_NAME)
    touched = [host for host in chosen if _bring_up_one(host, wanted, there.get(host.name), say, new=host in new)]
    access.fetch_certificates(wanted)
    return bool(touched) or pki_is_new or not (pki and pki.running)


def _bring_up_one(host: LabHost, wanted: Inventory, found: Container | None, say: Say, *, new: bool) -> bool:
    """Make, start or repair a host, whichever it needs; return whether anything was needed."""
    if new or found is None:
        say(f"Starting {host.name}: Debian {host.debian}, {host.address}")
        hosts.make(host, str(wanted.path))
        access.admit(wanted, host)
        return True
    if not found.running:
        say(f"Starting {host.name} again")
        hosts.start_container(host.name)
    renamed = found.names != set(host.names)
    if renamed:
        say(f"Giving {host.name} the names {', '.join(host.names)}")
        hosts.rename(host)
    if not renamed and found.running and access.can_log_in(wanted, host):
        return False
    hosts.restore_network(host.name)
    access.admit(wanted, host)
    return True


def _must_be_made(host: LabHost, found: Container | None) -> bool:
    return found is None or found.half_made or not found.fits(host)


def _refuse_a_clash(host: LabHost, wanted: Inventory, there: Iterable[Container]) -> None:
    """Refuse a host whose name, address or DNS name is taken by another inventory's host."""
    own = {each.name for each in wanted.hosts}
    for found in there:
        if found.name == host.name:
            clash = "" if found.fits(host) or found.inventory == str(wanted.path) else f"the name {host.name}"
        elif found.name in own and found.inventory == str(wanted.path):
            clash = ""
        else:
            taken = ({found.address} | found.names) & {str(host.address), *host.names}
            clash = ", ".join(sorted(taken))
        if clash:
            raise LabError(
                f"{host.name} cannot start: another host of the lab has {clash}",
                hint=f"It is {found.name} of {found.inventory}. Remove it with: zarpar lab down",
            )


def _belongs(found: Container, wanted: Inventory) -> bool:
    """Tell whether it was made for this inventory, which may list it no more, or is shared with another checkout."""
    return found.inventory == str(wanted.path) or any(
        found.name == host.name and found.fits(host) for host in wanted.hosts
    )


def _take_down(wanted: Inventory | None) -> list[str]:
    """Remove a wanted inventory's hosts (or all), and the rest when nobody is left; return the names."""
    there = hosts.every()
    gone = [name for name, found in sorted(there.items()) if wanted is None or _belongs(found, wanted)]
    if set(there) <= {*gone, PKI_NAME}:
        gone = sorted(there)
    hosts.remove(gone)
    if wanted is None:
        machine.remove_run_files()
    return gone

"""The machine under the lab: its packages, cgroup view, network and files. The only module that runs programs.

All of it is in places of the lab's own, and nothing here changes the machine's links, routes, sysctls or cgroup
mounts. Other containers of the machine are never seen.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from ipaddress import IPv4Network, ip_interface
from pathlib import Path
from typing import Any

from zarpar.lab.inventory import GATEWAY, SUBNET, LabError

Say = Callable[[str], None]

RUN = Path("/run/zarpar-lab")
STATE = Path("/var/lib/zarpar-lab")
BRIDGE = "zarparlab0"
NETWORK = "zarparlab"
DATA = Path(str(resources.files("zarpar.lab"))) / "data"

_NAMESPACE = RUN / "ns" / "mnt"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Package and one thing that it installs; a name without a slash is looked for on the PATH.
_PACKAGES = {
    "podman": "podman",
    "runc": "runc",
    "netavark": "/usr/lib/podman/netavark",
    "aardvark-dns": "/usr/lib/podman/aardvark-dns",
    "iptables": "iptables",  # netavark's firewall up to Debian 12
    "nftables": "nft",  # and from Debian 13
    "iproute2": "ip",
    "openssh-client": "ssh",
}
# Only where images can be made from Debian's mirrors.
_DEBIAN_PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "gpg": "gpg",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
}
_OTHER_PLACES = {"/usr/lib/podman/": "/usr/libexec/podman/"}
_INSTALLERS = {"dnf": "dnf install", "pacman": "pacman -S", "zypper": "zypper install"}


def run(
    argv: Sequence[str], *, stdin: str = "", check: bool = True, timeout: float = 900
) -> subprocess.CompletedProcess[str]:
    """Run a program and return its output; with `check` a failure is a LabError that quotes it."""
    try:
        done = subprocess.run(  # noqa: S603 - an argument list, and never a shell
            list(argv), input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"the lab waited {timeout:.0f} s in vain for: {_words(argv)}") from error
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed on this machine") from error
    if check and done.returncode != 0:
        raise LabError(f"the lab could not run: {_words(argv)}", detail="\n".join(done.stderr.splitlines()[-20:]))
    return done


def as_root(argv: Sequence[str]) -> list[str]:
    """Return the argument list that runs `argv` as root."""
    return list(argv) if os.geteuid() == 0 else ["sudo", *argv]


def podman(*arguments: str) -> list[str]:
    """Return the argument list of a podman command that sees the lab, and only the lab."""
    enter = [] if _is_pure_cgroup_v2() else ["nsenter", f"--mount={_NAMESPACE}"]
    settings = [f"CONTAINERS_CONF={RUN}/containers.conf", f"CONTAINERS_STORAGE_CONF={RUN}/storage.conf"]
    return as_root([*enter, "env", *settings, "podman", *arguments])


def is_prepared() -> bool:
    """Tell whether podman can be asked about the lab without setting anything up."""
    return (RUN / "boot-id").exists() and (RUN / "boot-id").read_text() == _BOOT_ID.read_text()


def was_ever_used() -> bool:
    """Tell whether the lab may have left something on this machine, even before a reboot."""
    return (STATE / "storage").exists()


def prepare(say: Say) -> None:
    """Install what is missing, and set up the lab's configuration, cgroup view and network."""
    _require_root()
    _install_packages(say)
    _forget_an_earlier_boot()
    _refuse_a_taken_subnet()
    _write(RUN / "containers.conf", (DATA / "containers.conf").read_text())
    _write(RUN / "storage.conf", (DATA / "storage.conf").read_text())
    _write(RUN / "networks" / f"{NETWORK}.json", json.dumps(_network(), indent=2) + "\n")
    _enter_cgroup_v2()
    _write(RUN / "boot-id", _BOOT_ID.read_text())


@contextlib.contextmanager
def locked(say: Say) -> Iterator[None]:
    """Hold the machine-wide lock of the lab; a second caller waits."""
    path = STATE / "lock"
    _require_root()
    while True:
        if not path.exists():
            run(as_root(["install", "-D", "-m", "644", "/dev/null", str(path)]))
        with path.open() as held:
            _flock(held.fileno(), say)
            # A purge may have removed the file while this waited.
            if path.exists() and path.stat().st_ino == os.fstat(held.fileno()).st_ino:
                yield
                return


def remove_run_files() -> None:
    """Remove the cgroup view, network and configuration; call it when no container is left."""
    _remove_tree(RUN)


def remove_everything() -> None:
    """Remove the images as well."""
    _remove_tree(RUN)
    _remove_tree(STATE / "storage")
    run(as_root(["rm", "-f", str(STATE / "lock")]))
    run(as_root(["rmdir", str(STATE)]), check=False)  # it stays where it is a disk of its own


def wait_until(check: Callable[[], bool], seconds: float) -> bool:
    """Ask again and again until the answer is yes, or the time is up."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def show_json(argv: Sequence[str]) -> Any:
    """Run a program that answers in JSON."""
    return json.loads(run(argv).stdout or "[]")


def has_mmdebstrap() -> bool:
    """Tell whether images can be made from Debian's mirrors."""
    return all(map(_is_there, _DEBIAN_PACKAGES.values()))


def overlap(routes: list[dict[str, Any]], links: list[dict[str, Any]]) -> str:
    """Return what other than the lab uses the lab's addresses ("eth1 10.77.0.0/16"), or nothing.

    Wider routes than a /16, such as a VPN's 10.0.0.0/8, only pass by: the lab's own is more specific.
    """
    used = [(route.get("dev", "?"), route["dst"]) for route in routes if route.get("dst", "default") != "default"]
    for link in links:
        used += [(link["ifname"], f"{a['local']}/{a['prefixlen']}") for a in link.get("addr_info", [])]
    for device, network in used:
        if device != BRIDGE and _touches(network):
            return f"{device} {network}"
    return ""


def _touches(text: str) -> bool:
    try:
        network = ip_interface(text).network
    except ValueError:  # a route without a network, such as "unreachable"
        return False
    return isinstance(network, IPv4Network) and network.prefixlen >= 16 and network.overlaps(SUBNET)


def _words(argv: Sequence[str]) -> str:
    """Return a command as an error message quotes it: without what it is wrapped in, and short."""
    words = " ".join(argv[list(argv).index("podman") :] if "podman" in argv else argv)
    return words.split("\n")[0][:120]


def _require_root() -> None:
    if os.geteuid() != 0 and not shutil.which("sudo"):
        raise LabError("the lab needs root, and sudo is not installed", hint="Run the same command as root.")


def _install_packages(say: Say) -> None:
    missing = [name for name, thing in (_PACKAGES | _DEBIAN_PACKAGES).items() if not _is_there(thing)]
    if not missing:
        return
    if not shutil.which("apt-get"):
        _refuse_to_install([name for name in missing if name in _PACKAGES])
        return
    say(f"Installing {', '.join(missing)} with apt-get")
    apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    # A third party's broken list does not matter, and the install says what is wrong with Debian's own.
    run(as_root([*apt, "update"]), check=False)
    run(as_root([*apt, "install", "--no-install-recommends", *missing]))


def _refuse_to_install(missing: list[str]) -> None:
    if missing:
        installer = next((words for name, words in _INSTALLERS.items() if shutil.which(name)), "")
        command = f"sudo {installer} {' '.join(missing)}" if installer else "install them with the system's tool"
        raise LabError(f"the lab needs these packages: {', '.join(missing)}", hint=f"Run: {command}")


def _is_there(thing: str) -> bool:
    if "/" not in thing:
        return shutil.which(thing, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None
    others = [thing.replace(usual, other) for usual, other in _OTHER_PLACES.items()]
    return any(Path(place).exists() for place in (thing, *others))


def _forget_an_earlier_boot() -> None:
    """Remove run-time files that survived a reboot, as where /run is not in memory: podman would believe them."""
    if (RUN / "boot-id").exists() and not is_prepared():
        _remove_tree(RUN)


def _refuse_a_taken_subnet() -> None:
    found = overlap(show_json(["ip", "-json", "-4", "route"]), show_json(["ip", "-json", "-4", "address"]))
    if found:
        raise LabError(
            f"this machine already uses addresses of the lab's network {SUBNET}: {found}",
            hint="The lab starts when that interface or route is gone.",
        )


def _network() -> dict[str, Any]:
    """Describe the network as podman stores it; `podman network create` of 4.3 cannot name the bridge."""
    return {
        "name": NETWORK,
        "id": "7a61727061726c616200000000000000000000000000000000000000000000ab",
        "driver": "bridge",
        "network_interface": BRIDGE,
        "created": "2026-01-01T00:00:00Z",
        "subnets": [{"subnet": str(SUBNET), "gateway": str(GATEWAY)}],
        "ipv6_enabled": False,
        "internal": False,
        "dns_enabled": True,
        "options": {"mtu": str(_mtu())},
        "ipam_options": {"driver": "host-local"},
    }


def _mtu() -> int:
    """Return the MTU of the way out, which may be smaller than usual inside a virtual machine or a VPN."""
    defaults = [r["dev"] for r in show_json(["ip", "-json", "-4", "route", "show", "default"]) if "dev" in r]
    links = show_json(["ip", "-json", "link"])
    return min([1500, *(int(link["mtu"]) for link in links if link["ifname"] in defaults)])


def _is_pure_cgroup_v2() -> bool:
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return any(m[4] == "/sys/fs/cgroup" and m[m.index("-") + 1] == "cgroup2" for m in mounts)


def _enter_cgroup_v2() -> None:
    """Make a mount namespace with a pure cgroup v2 tree, where the machine's own is a hybrid one."""
    if _is_pure_cgroup_v2() or run(as_root(["nsenter", f"--mount={_NAMESPACE}", "true"]), check=False).returncode == 0:
        return
    holder = str(_NAMESPACE.parent)
    if holder not in _mounts_under(_NAMESPACE.parent):
        run(as_root(["mkdir", "-p", holder]))
        run(as_root(["mount", "--bind", holder, holder]))
        run(as_root(["mount", "--make-private", holder]))
    run(as_root(["touch", str(_NAMESPACE)]))
    view = "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup"
    # Private propagation is what keeps that umount from reaching the machine's own mounts: never drop it.
    run(as_root(["unshare", f"--mount={_NAMESPACE}", "--propagation", "private", "sh", "-c", view]))


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        run(as_root(["install", "-D", "-m", "644", "/dev/stdin", str(path)]), stdin=text)


def _flock(descriptor: int, say: Say) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("Waiting for another command that works on the lab")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _remove_tree(folder: Path) -> None:
    """Unmount what is mounted in a folder of the lab, and remove the folder."""
    for mount in reversed(_mounts_under(folder)):
        run(as_root(["umount", mount]))
    if folder.exists():
        run(as_root(["rm", "-rf", "--one-file-system", str(folder)]))


def _mounts_under(folder: Path) -> list[str]:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if Path(point).is_relative_to(folder)]

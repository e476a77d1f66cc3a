"""The hosts of a benchmark: made one by one from the lab's image, and removed at the end, whatever happens."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import yaml

from bench.process import quiet
from bench.relay import Relay
from zarpar import lab

FIRST_ADDRESS = 160  # 10.77.0.160 and on: tests and people use others
MOST_HOSTS = 20  # of 26, the last got no address on a machine with Linux's usual limits
NAME = "bench"
DEBIAN = 13
PATIENCE = 30  # seconds for what a command left in the background


@dataclass(frozen=True)
class Line:
    """How the controller reaches a host: over the lab's own network, or through a relay on loopback."""

    host: str
    home: str  # the host's own address, by which its key is known
    address: str
    port: int
    folder: Path  # of the lab's key and known hosts

    @property
    def key(self) -> Path:
        return self.folder / "key"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def ssh_options(self) -> list[str]:
        """The options of ssh for this line; the host's key is always checked."""
        return [
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            f"UserKnownHostsFile={self.known_hosts}",
            "-o",
            f"HostKeyAlias={self.home}",
        ]

    def ssh_config(self) -> str:
        """The same as a configuration file of ssh, with an entry named like the host."""
        entries = {
            "HostName": self.address,
            "Port": self.port,
            "User": "deploy",
            "IdentityFile": self.key,
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": self.known_hosts,
            "HostKeyAlias": self.home,
        }
        return f"Host {self.host}\n" + "".join(f"  {name} {value}\n" for name, value in entries.items())


class Lab:
    """The hosts of one run, made on demand in a temporary folder; `with` removes all of them at its end."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="zarpar-bench-"))
        self.home = self.folder / "home"
        self.home.mkdir()
        self._inventory = self.folder / "inventories" / "lab" / "hosts.yml"
        self._inventory.parent.mkdir(parents=True)
        self._hosts: list[str] = []
        self._relays: dict[tuple[str, int], Relay] = {}

    def __enter__(self) -> Lab:
        self._remove_left_over()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for relay in self._relays.values():
            relay.close()
        self.close_connections()
        self.remove(self._hosts)
        if self._inventory.exists():
            with contextlib.suppress(lab.LabError):  # only the certificate authority is left to it
                lab.down(self._inventory, lambda _text: None)
        if kind is None or not issubclass(kind, Exception):  # after a failure, its logs are there to read
            shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def address(host: str) -> str:
        """The address of a host by its name, bench1 and on."""
        number = int(host.removeprefix(NAME))
        if not 1 <= number <= MOST_HOSTS:
            raise ValueError(f"{host}: the benchmark has {MOST_HOSTS} addresses")
        return f"10.77.0.{FIRST_ADDRESS + number - 1}"

    def make(self, hosts: Sequence[str]) -> None:
        """Make bare hosts, anew where they exist."""
        self.remove([host for host in hosts if host in self._hosts])
        self._hosts += [host for host in hosts if host not in self._hosts]
        self._describe()
        lab.up(self._inventory, hosts=list(hosts), say=lambda _text: None)

    def remove(self, hosts: Sequence[str]) -> None:
        """Remove hosts of this run."""
        gone = list(hosts)
        if gone:
            quiet(lab.machine.podman("rm", "--force", "--ignore", "--time=0", *gone))
        self._hosts = [host for host in self._hosts if host not in gone]

    def hosts(self) -> list[str]:
        """The names of the hosts that there are."""
        return list(self._hosts)

    def has(self, host: str) -> bool:
        return host in self._hosts

    def line(self, host: str, delay: int) -> Line:
        """The line to a host, with a delay of so many milliseconds for a round trip."""
        home = self.address(host)
        folder = self._inventory.parents[2] / ".lab"
        if not delay:
            return Line(host, home, home, 22, folder)
        if (host, delay) not in self._relays:
            self._relays[host, delay] = Relay(home, delay)
        port = self._relays[host, delay].port
        return Line(host, home, "127.0.0.1", port, folder)

    def inside(self, host: str, *argv: str, stdin: str = "", check: bool = True) -> str:
        """Run a command as root inside a host, past SSH; return what it printed."""
        return quiet([*lab.exec_command(host), *argv], stdin=stdin, check=check)

    def copy_out(self, host: str, source: str, target: Path) -> None:
        quiet(lab.machine.podman("cp", f"{host}:{source}", str(target)))

    def copy_in(self, source: Path, host: str, target: str) -> None:
        quiet(lab.machine.podman("cp", str(source), f"{host}:{target}"))

    def close_connections(self) -> None:
        """Close the SSH connections that earlier runs left open for the next one: every measured run starts cold.

        What a run left in the background may still need its connection, and gets the time to end.
        """
        deadline = time.monotonic() + PATIENCE
        while self._busy() and time.monotonic() < deadline:
            time.sleep(0.05)
        for socket in self.home.rglob("*"):
            if socket.is_socket():
                quiet(["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "closing"], check=False)

    def _busy(self) -> bool:
        """Tell whether a process of a measured command still runs, other than a shared SSH connection."""
        mark = f"HOME={self.home}".encode()
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    mine = mark in (folder / "environ").read_bytes().split(b"\0")
                    if mine and b"[mux]" not in (folder / "cmdline").read_bytes():
                        return True
        return False

    def _describe(self) -> None:
        hosts = {
            host: {"ansible_host": self.address(host), "lab": {"debian": DEBIAN, "names": []}} for host in self._hosts
        }
        self._inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts}}))

    def _remove_left_over(self) -> None:
        """Remove hosts of this name that a killed run left."""
        if lab.machine.is_prepared():
            self.remove([f"{NAME}{number}" for number in range(1, MOST_HOSTS + 1)])

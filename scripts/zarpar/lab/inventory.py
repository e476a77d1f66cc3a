"""Which hosts of an Ansible inventory are hosts of the lab. Reads files; knows nothing of containers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import yaml

from zarpar.errors import ZarparError

SUBNET = IPv4Network("10.77.0.0/24")
GATEWAY = IPv4Address("10.77.0.1")
PKI_NAME = "pki"
PKI_ADDRESS = IPv4Address("10.77.0.2")
FIRST_ADDRESS = IPv4Address("10.77.0.100")
DEBIANS = {12: "bookworm", 13: "trixie"}

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}\Z")
_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})+\Z")


class LabError(ZarparError):
    """The lab cannot do what was asked."""


@dataclass(frozen=True)
class LabHost:
    """One host as the inventory wants it; `names` lead to it in the lab's DNS."""

    name: str
    address: IPv4Address
    debian: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Inventory:
    """The lab hosts of one inventory, and the folder of its keys and certificates."""

    path: Path
    hosts: tuple[LabHost, ...]

    @property
    def folder(self) -> Path:
        """`.lab` in the checkout, which is two folders above the inventory's own (`inventories/lab`)."""
        return self.path.parents[2] / ".lab"

    def select(self, names: list[str] | None) -> tuple[LabHost, ...]:
        """Return the named hosts, or all of them."""
        if names is None:
            return self.hosts
        return tuple(self.host(name) for name in dict.fromkeys(names))

    def host(self, name: str) -> LabHost:
        """Return one host; a LabError lists the ones there are."""
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise LabError(f"{name} is no lab host of {self.path}", hint=f"It has: {known}.")


class _Loader(yaml.SafeLoader):
    """Reads an inventory without understanding Ansible's own tags, such as !vault."""


_Loader.add_multi_constructor("!", lambda _loader, _tag, _node: None)


def has_hosts(inventory: Path) -> bool:
    """Tell whether the inventory (a folder or its hosts.yml) describes a host of the lab."""
    path = _hosts_file(inventory)
    return path.is_file() and any("lab" in variables for variables in _host_variables(_load(path)).values())


def read(inventory: Path) -> Inventory:
    """Read the lab hosts of an inventory: a folder with a hosts.yml, or that file."""
    path = _hosts_file(inventory)
    variables = _host_variables(_load(path))
    hosts = tuple(_lab_host(name, found, path) for name, found in variables.items() if "lab" in found)
    if not hosts:
        raise LabError(
            f"{path} describes no lab host",
            hint="A lab host has the variables `ansible_host: 10.77.0.101` and `lab: {debian: 13}`.",
        )
    _refuse_twins(hosts, path)
    return Inventory(path, hosts)


def _hosts_file(inventory: Path) -> Path:
    resolved = inventory.resolve()
    if not resolved.is_dir():
        return resolved
    return next((found for found in sorted(resolved.glob("hosts.y*ml"))), resolved / "hosts.yml")


def _load(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    except OSError as error:
        raise LabError(f"cannot read the inventory {path}", detail=str(error)) from error
    except yaml.YAMLError as error:
        raise LabError(f"{path} is not valid YAML", detail=str(error)) from error


def _host_variables(groups: Any) -> dict[str, dict[str, Any]]:
    """Merge what each host is given at all the places where it is listed."""
    merged: dict[str, dict[str, Any]] = {}
    for name, variables in _listed(groups):
        merged.setdefault(name, {}).update(variables)
    return merged


def _listed(groups: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for group in _mapping(groups).values():
        for name, variables in _mapping(_mapping(group).get("hosts")).items():
            yield str(name), _mapping(variables)
        yield from _listed(_mapping(group).get("children"))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _lab_host(name: str, variables: dict[str, Any], path: Path) -> LabHost:
    where = f"{path}: host {name!r}"
    if not _HOST_NAME.match(name) or name == PKI_NAME:
        raise LabError(
            f"{where}: a lab host cannot have this name",
            hint=f"Small letters, digits and dashes; {PKI_NAME} is the lab's certificate authority.",
        )
    lab = variables["lab"]
    if not isinstance(lab, dict) or not lab.keys() <= {"debian", "names"}:
        raise LabError(f"{where}: lab: must be like {{debian: 13, names: [shop.example.test]}}")
    if lab.get("debian") not in DEBIANS:
        raise LabError(f"{where}: lab.debian: must be 12 or 13, not {lab.get('debian')!r}")
    return LabHost(name, _address(variables.get("ansible_host"), where), lab["debian"], _names(lab, where))


def _address(value: Any, where: str) -> IPv4Address:
    try:
        address = IPv4Address(value)
    except ValueError:
        address = GATEWAY
    if address not in SUBNET or address < FIRST_ADDRESS or address == SUBNET.broadcast_address:
        raise LabError(f"{where}: ansible_host: must be from {FIRST_ADDRESS} to 10.77.0.254, not {value!r}")
    return address


def _names(lab: dict[str, Any], where: str) -> tuple[str, ...]:
    names = lab.get("names", [])
    if not isinstance(names, list):
        raise LabError(f"{where}: lab.names: must be a list of DNS names")
    for name in names:
        if not isinstance(name, str) or not _DNS_NAME.match(name):
            raise LabError(f"{where}: lab.names: {name!r} is not a DNS name")
    return tuple(names)


def _refuse_twins(hosts: tuple[LabHost, ...], path: Path) -> None:
    seen: dict[str, str] = {}
    for host in hosts:
        for claim in (str(host.address), *host.names):
            if claim in seen:
                raise LabError(f"{path}: {claim} belongs to both {seen[claim]} and {host.name}")
            seen[claim] = host.name

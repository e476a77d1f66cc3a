"""What the suite knows of an environment before it asks a host: the inventory's own data, resolved as a deploy does.

The apps come from the model that roles and wrapper use; connection data go to testinfra with their Jinja rendered,
which testinfra itself does not do. Values of secrets are dropped here, so that no failed test can show one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import testinfra
import yaml
from ansible import constants
from ansible.cli import CLI
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from testinfra.host import Host
from testinfra.utils.ansible_runner import AnsibleRunner

from zarpar import config, plan, services, variables
from zarpar.errors import BadData
from zarpar.lab import inventory as lab

App = dict[str, Any]

CHECKOUT = plan.find_checkout()
CONTROL_PATH = Path("~/.ansible/zp").expanduser()
CONNECTION = (
    "ansible_connection",
    "ansible_host",
    "ansible_port",
    "ansible_user",
    "ansible_private_key_file",
    "ansible_ssh_private_key_file",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
)
SECRETS = ("env", "database_url", "database_password", "redis_url", "redis_password")


@dataclass(frozen=True)
class Server:
    """One host of the inventory.

    settings: the public variables of the roles, as this host gets them. clients: hosts that use its database over
    the network. services: what it serves to the apps, as templates get it.
    """

    name: str
    address: str
    groups: frozenset[str]
    lab: bool
    clients: tuple[str, ...]
    settings: Mapping[str, Any]
    services: Mapping[str, Any]
    apps: tuple[App, ...]


@dataclass(frozen=True)
class Environment:
    """An inventory. trust: the CA file for certificates of a lab; empty for the system's."""

    inventory: Path
    servers: tuple[Server, ...]
    trust: str

    def of_group(self, *groups: str) -> list[Server]:
        """Return the servers that are in one of these groups of the inventory."""
        return [server for server in self.servers if server.groups & set(groups)]

    def connect(self, server: Server) -> Host:
        """Open the connection to a server, where every command runs as root. Raises RuntimeError when it cannot."""
        user = _host(self.inventory, server, become=False).check_output("id -u")
        host = _host(self.inventory, server, become=user != "0")
        tried = host.run("true")
        if tried.rc != 0:
            raise RuntimeError(tried.stderr.strip())
        return host


def load(given: str, limit: str) -> Environment:
    """Read an environment by its name, or by the path of its folder or of its inventory file.

    Raises BadData with the words that a deploy would use.
    """
    path = Path(given)
    inventory = path.resolve() if path.is_file() else plan.find_environment(given, CHECKOUT, Path.cwd()).inventory
    try:
        return _load(inventory, limit)
    except AnsibleError as error:
        raise BadData(str(error)) from error


def _load(inventory: Path, limit: str) -> Environment:
    loader = DataLoader()
    secrets = CLI.setup_vault_secrets(loader, vault_ids=constants.DEFAULT_VAULT_IDENTITY_LIST, auto_prompt=False)
    loader.set_vault_secrets(secrets)
    manager = InventoryManager(loader=loader, sources=[str(inventory)])
    manager.subset(limit or None)
    source = VariableManager(loader=loader, inventory=manager)
    HostVars(inventory=manager, variable_manager=source, loader=loader)  # from here on the variables have `hostvars`
    found = {host.name: _Variables(loader, source.get_vars(host=host)) for host in manager.get_hosts()}
    if not found:
        raise BadData(f"{inventory} has no host" + (f" that is called {limit}" if limit else ""))
    _hand_over(inventory, {name: its.connection() for name, its in found.items()})
    servers = tuple(_server(name, its) for name, its in found.items())
    in_lab = any(server.lab for server in servers)
    return Environment(inventory, servers, str(lab.read(inventory).folder / "pebble-root.pem") if in_lab else "")


class _Variables:
    """The variables of one host, rendered when they are asked for."""

    def __init__(self, loader: DataLoader, raw: dict[str, Any]) -> None:
        self.raw = raw
        self._templar = Templar(loader=loader, variables=raw)

    def get(self, name: str, default: Any = None) -> Any:
        return self._templar.template(self.raw[name]) if name in self.raw else default

    def connection(self) -> dict[str, Any]:
        """Return what testinfra reads. ssh never asks, and all commands share one connection."""
        known = {name: self.get(name) for name in CONNECTION if name in self.raw}
        shared = f"-o BatchMode=yes -o ControlPath={CONTROL_PATH}/%C"
        return {**known, "ansible_ssh_extra_args": f"{known.get('ansible_ssh_extra_args', '')} {shared}".strip()}

    def apps(self) -> Iterator[App]:
        """Return the apps as this host's templates get them, without secrets."""
        for full in services.apps_for_host(self._model(), self.raw):
            yield {key: value for key, value in full.items() if key not in SECRETS}

    def services(self) -> dict[str, Any]:
        """Return what this host serves to the apps, and to whom."""
        return services.of_host(self._model(), self.raw)

    def _model(self) -> dict[str, config.App]:
        return config.load_apps(variables.literal("apps", self.raw.get("apps"), self._reference))

    def _reference(self, expression: str) -> Any:
        return self._templar.template(trust_as_template(expression))


def _server(name: str, its: _Variables) -> Server:
    groups = its.raw["groups"]
    runs, databases = services.app_hosts(its.raw), groups.get("db", [])
    return Server(
        name=name,
        address=str(its.get("zarpar_address") or its.get("ansible_host") or name),
        groups=frozenset(group for group, hosts in groups.items() if name in hosts),
        lab="lab" in its.raw,
        clients=tuple(host for host in runs if host not in databases) if name in databases else (),
        settings={key: its.get(key, default) for key, default in _role_defaults().items()},
        services=its.services(),
        apps=tuple(its.apps()),
    )


def _role_defaults() -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    for path in sorted((CHECKOUT / "roles").glob("*/defaults/main.yml")):
        defaults.update(yaml.safe_load(path.read_text()) or {})
    return defaults


def _host(inventory: Path, server: Server, *, become: bool) -> Host:
    return testinfra.get_host(f"ansible://{server.name}", ansible_inventory=_key(inventory, become=become))


def _key(inventory: Path, *, become: bool) -> str:
    return f"{inventory} as root" if become else str(inventory)


def _hand_over(inventory: Path, hosts: dict[str, dict[str, Any]]) -> None:
    """Give testinfra's ansible backend the resolved inventory in place of what it would read unresolved."""
    CONTROL_PATH.mkdir(mode=0o700, parents=True, exist_ok=True)
    for become in (True, False):
        resolved = {name: {**known, "ansible_become": become} for name, known in hosts.items()}
        runner = AnsibleRunner.get_runner(_key(inventory, become=become))
        runner.inventory = {"_meta": {"hostvars": resolved}, "all": {"hosts": sorted(resolved)}}

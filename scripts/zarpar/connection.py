"""Which hosts an inventory has, and the exact ssh command by which Ansible would reach each of them.

For commands that need no playbook. Ansible's own libraries read the inventory and make the command, so that whatever
an inventory can say of a connection counts here too; only host keys are checked whatever it says.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zarpar import plan
from zarpar.diagnosis import without_tags
from zarpar.errors import BadData
from zarpar.plan import Environment

STRICT = ("-o", "StrictHostKeyChecking=yes")


@dataclass(frozen=True)
class Server:
    """A host of the inventory. address: what ssh connects to; options: all of ssh's that Ansible would give."""

    name: str
    address: str
    user: str
    groups: frozenset[str]
    program: str
    options: tuple[str, ...]
    others_reach: str  # how other hosts and visitors reach it, when the inventory says so

    def ssh(self, script: str, *options: str) -> list[str]:
        """The arguments that run a script of /bin/sh on this host."""
        command = f"/bin/sh -c {shlex.quote(script)}"  # whatever the login shell is
        return [self.program, *STRICT, *options, *self.options, self.address, command]


@dataclass(frozen=True)
class Inventory:
    """What an inventory says. servers: those that are meant; rest: those that the limit leaves out.

    apps: as it is written, for names only; values are not checked, nor resolved.
    """

    servers: tuple[Server, ...]
    rest: tuple[Server, ...]
    apps: Mapping[str, Any]

    def of_group(self, *groups: str) -> list[Server]:
        """The hosts of a group, or of several, one group after the other. Raises BadData when there is none."""
        found = dict.fromkeys(server for group in groups for server in self.servers if group in server.groups)
        if not found:
            raise BadData(f"no host of the inventory that is meant is in the group {' or '.join(groups)}")
        return list(found)

    def app(self, wanted: str) -> str:
        """The app that is meant: the named one, or the only one. Raises BadData otherwise."""
        if wanted and wanted in self.apps:
            return wanted
        if not wanted and len(self.apps) == 1:
            return next(iter(self.apps))
        known = ", ".join(self.apps) or "none"
        if wanted:
            raise BadData(f"there is no app {wanted!r}", hint=f"Known: {known}")
        raise BadData("which app is meant?", hint=f"Say --app NAME; there are: {known}")


def load(checkout: Path, target: Environment, *, limit: str = "", ask_vault_pass: bool = False) -> Inventory:
    """Read an inventory as Ansible does, once in a process. Raises BadData with Ansible's words when it cannot."""
    # before Ansible is imported, which reads its settings then
    environment = plan.child_environment(checkout, os.environ, target.inventory)
    os.environ.update(environment)
    passwords = [environment["ANSIBLE_VAULT_PASSWORD_FILE"]] if environment.get("ANSIBLE_VAULT_PASSWORD_FILE") else []
    from ansible.errors import AnsibleError

    try:
        return _load(target.inventory, limit, passwords, ask_vault_pass)
    except AnsibleError as error:
        hint = "Name the file with the vault's password: export ANSIBLE_VAULT_PASSWORD_FILE=PATH"
        summary = without_tags(str(error).splitlines()[0])
        raise BadData(summary, hint=hint if "vault" in summary.lower() or "ecrypt" in summary else "") from error


def _load(inventory: Path, limit: str, passwords: list[str], ask_vault_pass: bool) -> Inventory:
    from ansible import constants
    from ansible.cli import CLI
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.plugins.loader import init_plugin_loader
    from ansible.vars.hostvars import HostVars
    from ansible.vars.manager import VariableManager

    from zarpar import variables

    init_plugin_loader()
    loader = DataLoader()
    known = list(constants.DEFAULT_VAULT_IDENTITY_LIST)
    if constants.DEFAULT_VAULT_PASSWORD_FILE:  # Ansible was imported when its environment named it already
        passwords = []
    loader.set_vault_secrets(
        CLI.setup_vault_secrets(loader, known, passwords, ask_vault_pass=ask_vault_pass, auto_prompt=False)
    )
    manager = InventoryManager(loader=loader, sources=[str(inventory)])
    source = VariableManager(loader=loader, inventory=manager)
    HostVars(inventory=manager, variable_manager=source, loader=loader)  # from here on the variables have `hostvars`
    for host in manager.get_hosts():
        variables.check_host_name(host.name)
    found = {host.name: source.get_vars(host=host) for host in manager.get_hosts()}
    manager.subset(limit or None)
    meant = {host.name for host in manager.get_hosts()}
    if not meant:
        raise BadData(f"{inventory} has no host" + (f" that is called {limit}" if limit else ""))
    apps: Mapping[str, Any] = next((its["apps"] for its in found.values() if isinstance(its.get("apps"), Mapping)), {})
    servers = {name: _server(str(name), its, loader) for name, its in found.items()}
    for name in apps:
        if not plan.APP_NAME.fullmatch(str(name)):
            raise BadData(f"apps: {str(name)[:40]!r} is not an app's name", hint="All keys: docs/APPS.md.")
    chosen = tuple(server for name, server in servers.items() if name in meant)
    rest = tuple(server for name, server in servers.items() if name not in meant)
    return Inventory(chosen, rest, {str(name): apps[name] for name in sorted(apps, key=str)})


def _server(name: str, its: Mapping[str, Any], loader: Any) -> Server:
    from ansible.playbook.play_context import PlayContext
    from ansible.plugins.loader import connection_loader
    from ansible.template import Templar

    templar = Templar(loader=loader, variables=its)
    kind = str(templar.template(its.get("ansible_connection", "ssh")))
    if kind not in ("ssh", "smart", "ansible.builtin.ssh"):
        raise BadData(f"{name}: this command works over SSH, and ansible_connection is {kind}")
    connection = connection_loader.get("ssh", PlayContext())
    connection.set_options(var_options=connection._resolve_option_variables(its, templar))
    if connection.get_option("password"):
        raise BadData(f"{name}: this command logs in by key, and the inventory has a password", hint="Use an SSH key.")
    address = str(connection.get_option("host") or name)
    connection.host = address  # the name of the connection that is shared with Ansible is made of it
    built = connection._build_command(connection.get_option("ssh_executable"), "ssh")
    program, *options = [word.decode() if isinstance(word, bytes) else str(word) for word in built]
    return Server(
        name=name,
        address=address,
        user=str(connection.get_option("remote_user") or ""),
        groups=frozenset(str(group) for group in its.get("group_names", [])),
        program=program,
        options=tuple(options),
        others_reach=_reached_by_others(its, templar),
    )


def _reached_by_others(its: Mapping[str, Any], templar: Any) -> str:
    """zarpar_address, as the playbooks take it: data, but for a whole reference to a variable."""
    from ansible.template import trust_as_template

    from zarpar import variables

    def resolve(expression: str) -> Any:
        return templar.template(trust_as_template(expression))

    if not its.get("zarpar_address"):
        return ""
    variables.check_own({"zarpar_address": its["zarpar_address"]}, resolve)
    return str(variables.literal("zarpar_address", its["zarpar_address"], resolve))


def as_root(argv: Sequence[str], *, ask: bool = False) -> str:
    """A script that runs a program as root, by sudo where the login is another user's; `ask`: sudo may ask."""
    words = shlex.join(argv)
    sudo = "sudo" if ask else "sudo -n"
    return f'if [ "$(id -u)" = 0 ]; then exec {words}; else exec {sudo} -- {words}; fi'

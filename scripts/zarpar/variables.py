"""From what an inventory says to plain data: users' values stay literal, Jinja in them is refused by name.

The one exception: a text that is a whole reference to another variable, as secrets need it
("{{ vault_shop_secret_key }}"). A text tagged !unsafe in YAML is literal, whatever it holds.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.template import is_trusted_as_template

from zarpar import config
from zarpar.errors import BadData

REFERENCE = re.compile(r"\{\{\s*[A-Za-z_][A-Za-z0-9_]*\s*\}\}")
YES_OR_NO = r"(?i:yes|no|true|false)?"
# What a person or the wrapper may give to a run, and what an inventory may say of a host: the forms.
OWN_VARIABLES = {
    "zarpar_apps": r"[a-z0-9, -]*",  # or a list of names; whether there are such apps is seen later
    "zarpar_ref": rf"({config.REF})?",
    "zarpar_wait_lock": r"[0-9]{0,5}",
    "zarpar_release": r"([0-9a-f]{8}-[0-9a-f]{6})?",
    "zarpar_force": YES_OR_NO,
    "zarpar_deploy": r"[0-9a-f]{0,32}",
    "zarpar_address": r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}|::[0-9a-f:.]*|",
}
# Names of hosts are written into files (pg_hba.conf), and are patterns to Ansible.
HOST_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}", re.ASCII)
MARKS = ("{{", "{%", "{#")


def has_jinja(text: str) -> bool:
    """Whether a text holds an opening mark of Jinja."""
    return any(mark in text for mark in MARKS)


def is_template(value: object) -> bool:
    """Whether Ansible would evaluate a value that is no whole reference to another variable."""
    return (
        isinstance(value, str)
        and has_jinja(value)
        and is_trusted_as_template(value)
        and not REFERENCE.fullmatch(value.strip())
    )


def literal(path: str, value: Any, resolve: Callable[[str], Any]) -> Any:
    """A plain copy of a raw inventory value; whole references are resolved. Raises BadData with the key's path."""
    if isinstance(value, Mapping):
        for key in value:
            if has_jinja(str(key)):
                raise BadData(f"{path}: a key holds Jinja ({MARKS[0]} or the like), which is not allowed")
        return {str(key): literal(f"{path}.{key}", entry, resolve) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [literal(f"{path}[{index}]", entry, resolve) for index, entry in enumerate(value)]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if type(value).__name__ == "EncryptedString":  # an inline !vault value decrypts itself
        return str(value)
    text = str(value)
    if not has_jinja(text) or not is_trusted_as_template(value):
        return text
    return _reference(path, text, resolve)


def _reference(path: str, text: str, resolve: Callable[[str], Any]) -> Any:
    if not REFERENCE.fullmatch(text):
        raise BadData(
            f"{path}: Jinja is not allowed in this value",
            hint='Only a whole reference to a variable is, such as "{{ vault_name }}"; tag a literal text !unsafe.',
        )
    name = text.strip("{} ")
    try:
        resolved = resolve(text)
    except AnsibleError as error:
        vault = name.startswith("vault_")
        raise BadData(
            f"{path}: the variable {name} has no value",
            detail="" if "undefined" in str(error) else str(error).splitlines()[0][:300],
            hint=f"Add {name} to the environment's vault: ansible-vault edit inventories/ENV/group_vars/all/vault.yml"
            if vault
            else "",
        ) from error
    if not isinstance(resolved, str | int):
        raise BadData(f"{path}: the variable {name} is not a text")
    return config.Referred(resolved)


def database_host(host: str, task_vars: Mapping[str, Any]) -> str:
    """The host whose PostgreSQL a web host uses: its own when it is in the group db, else the first of that group."""
    databases = list(task_vars.get("groups", {}).get("db", []))
    if host in databases:
        return host
    return str(databases[0]) if databases else ""


def migrates(host: str, task_vars: Mapping[str, Any]) -> bool:
    """Whether this host of the play runs migrations: one for each database, its own host before any other."""
    mine = database_host(host, task_vars)
    sharing = [other for other in task_vars["ansible_play_hosts_all"] if database_host(other, task_vars) == mine]
    return host == (mine if mine in sharing else sharing[0])


def database_url(name: str, app: config.App, task_vars: Mapping[str, Any]) -> str:
    """DATABASE_URL for an app as this host must write it; empty when it has no database.

    Raises BadData when the database is on another host and there is no password for it.
    """
    if not app.database:
        return ""
    host = database_host(task_vars["inventory_hostname"], task_vars)
    if not host:
        raise BadData(f"apps.{name}.database: the inventory has no host in the group db")
    if task_vars["inventory_hostname"] == host:
        return config.database_url(name, "", "")
    if not app.database_password:
        raise BadData(
            f"apps.{name}.database_password: is required, because the database is on another host ({host})",
            hint=f'Write database_password: "{{{{ vault_{name.replace("-", "_")}_database_password }}}}" and'
            " put the value into the vault.",
        )
    return config.database_url(name, app.database_password, address_of(host, task_vars))


def address_of(host: str, task_vars: Mapping[str, Any]) -> str:
    """How other hosts reach a host of the inventory: zarpar_address, else ansible_host, else its name.

    Raises BadData for what is no address: it goes into DATABASE_URL and PostgreSQL's configuration.
    """
    its = task_vars.get("hostvars", {}).get(host, {})
    address = str(its.get("zarpar_address") or its.get("ansible_host") or host)
    if not re.fullmatch(OWN_VARIABLES["zarpar_address"], address):
        raise BadData(f"zarpar_address of {host}: {address[:60]!r} is not an address that other hosts can use")
    return address


def check_host_name(name: object) -> None:
    """Raise BadData for a name that cannot be written into a file, or means something else to Ansible."""
    if isinstance(name, str) and (HOST_NAME.fullmatch(name) or _is_address(name)):
        return
    raise BadData(
        f"inventory: {str(name)[:60]!r} is not a host's name",
        hint="Letters, digits, dots, dashes and _, first a letter or digit; the address goes into ansible_host.",
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def check_own(task_vars: Mapping[str, Any], resolve: Callable[[str], Any]) -> None:
    """Raise BadData for a variable zarpar_x that is none of ours, or does not have its form."""
    for name in sorted(name for name in task_vars if name.startswith("zarpar_")):
        if name not in OWN_VARIABLES:
            raise BadData(f"{name}: there is no such variable")
        value = literal(name, task_vars[name], resolve)
        values = value if name == "zarpar_apps" and isinstance(value, list) else [value]
        for one in values:
            text = "" if one is None else str(one)
            if isinstance(one, list | dict) or not re.fullmatch(OWN_VARIABLES[name], text):
                raise BadData(f"{name}: {text[:60]!r} has a form that is not allowed here")


def is_yes(value: object) -> bool:
    """What a person means by zarpar_force=no, which is a text."""
    return str(value or "").lower() in ("yes", "true")


class RoleVariables:
    """The public variables of the roles, as their argument_specs declare them."""

    def __init__(self, roles: Path) -> None:
        self.specs: dict[str, dict[str, Any]] = {}
        for path in sorted(roles.glob("*/meta/argument_specs.yml")):
            spec = yaml.safe_load(path.read_text())["argument_specs"]["main"]
            self.specs[path.parts[-3]] = spec.get("options") or {}

    def check(self, task_vars: Mapping[str, Any], resolve: Callable[[str], Any]) -> None:
        """Raise BadData for a variable that looks like a role's and is none, holds Jinja, or has a wrong type."""
        known = {name for spec in self.specs.values() for name in spec}
        for role, spec in self.specs.items():
            mine = {name for name in task_vars if name.startswith(f"{role}_")}
            for name in sorted(mine - known):
                close = difflib.get_close_matches(name, known, n=1)
                all_of_them = f"The variables of role {role}: {', '.join(spec) or 'none; see docs/APPS.md'}"
                hint = f"Did you mean {close[0]}?" if close else all_of_them
                raise BadData(f"{name}: role {role} has no such variable", hint=hint)
            values = {name: literal(name, task_vars[name], resolve) for name in sorted(mine & set(spec))}
            problems = ArgumentSpecValidator(_settable(spec)).validate(values).error_messages
            if problems:
                raise BadData(f"role {role}: {_said(problems[0])}", hint=f"Its variables: roles/{role}/README.md")
        check_own(task_vars, resolve)

    def mine(self, task_vars: Mapping[str, Any]) -> dict[str, Any]:
        """The part of a host's variables that this checks, and its apps: what need not be checked twice."""
        prefixes = ("zarpar_", *(f"{role}_" for role in self.specs))
        return {name: value for name, value in task_vars.items() if name == "apps" or name.startswith(prefixes)}


def _said(problem: str) -> str:
    """Ansible's words for a wrong value, in one line and without the value, which may be anything."""
    text = re.sub(r"( convert to \w+)\b.*|, got: .*", r"\1", problem, flags=re.DOTALL)
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:300]


def _settable(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec without what only documents: description; and without demanding what defaults give."""
    allowed = ("type", "elements", "choices", "options", "required")
    return {name: {key: entry[key] for key in allowed if key in entry} for name, entry in spec.items()}

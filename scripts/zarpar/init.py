"""Writes the inventory of a new environment from what an app's checkout says; `texts` is pure, `write` writes."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from zarpar import config, vault
from zarpar.diagnosis import plain
from zarpar.discover import Findings
from zarpar.errors import BadData
from zarpar.plan import ENVIRONMENT

COMMON = "group_vars/all/00_common.yml"
APPS = "group_vars/all/apps.yml"
ORDER = (
    "wsgi", "python", "database", "redis", "migrate", "build", "processes", "health", "static", "uploads",
    "server", "gunicorn",
)  # fmt: skip
USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}", re.ASCII)
HOSTS = """\
---
# The servers of this environment, made by `zarpar init`. `web` serves, `db` has PostgreSQL; a database on a server of
# its own is another host in `db`. Redis is on the web host, or on the host of a group `redis`; workers too, or on the
# hosts of a group `worker` (docs/APPS.md).
all:
  vars:
    ansible_user: {user}  # root, or a user with sudo; Zarpar logs in by SSH key
  children:
    web:
      hosts:
        web1:
          ansible_host: {host}
    db:
      hosts:
        web1:
"""
HEAD = """\
---
# What Zarpar must know of your app, found in its checkout by `zarpar init`. All keys and defaults: docs/APPS.md
apps:
"""
TAIL = """\

# Let's Encrypt writes here when a certificate is about to expire unrenewed.
# certbot_email: you@{domain}
"""


@dataclass(frozen=True)
class Wanted:
    """What a person says of the new environment; checked on creation."""

    environment: str
    host: str
    domain: str
    user: str = "root"

    def __post_init__(self) -> None:
        if not ENVIRONMENT.fullmatch(self.environment):
            raise BadData(f"--env: {self.environment!r} is not a name", hint="Such as: prod, staging")
        if not _is_host(self.host):
            raise BadData(f"--host: {self.host!r} is no address", hint="Give the server's, such as 203.0.113.10")
        if not re.fullmatch(config.DOMAIN, self.domain):
            raise BadData(f"--domain: {self.domain!r} is no domain", hint="Give one such as shop.example.com")
        if not USER.fullmatch(self.user):
            raise BadData(f"--user: {self.user!r} is not a user's name", hint="Such as: root, deploy")


def texts(found: Findings, wanted: Wanted, inventory: Path) -> dict[str, str]:
    """The inventory's plain files by their paths in it. Raises BadData when a deploy would not accept them."""
    ordered = {key: found.keys[key] for key in ORDER if key in found.keys}
    app = {"domains": [wanted.domain], "source": {"path": _path(found.folder, inventory)}, **ordered}
    app["env"] = _environment(found, wanted)
    config.load_apps({found.name: app})
    hosts = HOSTS.format(user=_value(wanted.user), host=_value(wanted.host))
    return {"hosts.yml": hosts, APPS: HEAD + _app(found, app, wanted.environment) + TAIL.format(domain=wanted.domain)}


def vault_text(found: Findings) -> str:
    """The vault's text: a secret that only has a name gets a value that nobody can guess."""
    text = "# Made by `zarpar init`; change it with `zarpar secrets`.\n"
    for name, value in sorted(found.secrets.items()):
        text = vault.with_value(text, vault.variable(found.name, name), value or vault.new_secret())
    return text


def write(
    found: Findings, wanted: Wanted, inventory: Path, checkout: Path, environment: Mapping[str, str]
) -> tuple[list[Path], Path]:
    """Write the inventory and its vault; return the files and the vault's password file.

    checkout: Zarpar's own. Raises BadData, and writes nothing, when one of the files is there already.
    """
    plain_files = texts(found, wanted, inventory)
    secret = vault_text(found)
    there = [name for name in (*plain_files, COMMON, str(vault.VAULT)) if os.path.lexists(inventory / name)]
    if there:
        raise BadData(
            f"{inventory / there[0]} is there already, and is not overwritten",
            hint=f"Edit it, or make another environment: zarpar init --env NAME (there is a {wanted.environment})",
        )
    password = vault.make_password(inventory, environment)
    (inventory / COMMON).parent.mkdir(parents=True, exist_ok=True)
    for name, text in plain_files.items():
        with (inventory / name).open("x") as handle:
            handle.write(text)
    _common(inventory, checkout)
    vault.write(inventory, secret, environment)
    return [inventory / name for name in (*plain_files, COMMON, str(vault.VAULT))], password


def _common(inventory: Path, checkout: Path) -> None:
    """Zarpar's shared values: a link inside Zarpar's checkout, a copy elsewhere, where a link would lead out."""
    shared, here = checkout / "group_vars" / "all.yml", inventory / COMMON
    if inventory.is_relative_to(checkout):
        here.symlink_to(os.path.relpath(shared, here.parent))
    else:
        here.write_text(shared.read_text())


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return bool(re.fullmatch(rf"({config.LABEL}\.)*{config.LABEL}", text))
    return re.fullmatch(r"[0-9A-Fa-f.:]+(%[A-Za-z0-9._-]+)?", text) is not None  # ipaddress takes any name after a %


def _path(folder: Path, inventory: Path) -> str:
    """The app's folder as its source says it: relative to the inventory's."""
    return os.path.relpath(folder, inventory)


def _environment(found: Findings, wanted: Wanted) -> dict[str, str]:
    """The app's environment: plain values, the domain where it is asked for, references for secrets."""
    secrets = {name: vault.reference(vault.variable(found.name, name)) for name in sorted(found.secrets)}
    domains = dict.fromkeys(found.domain_names, wanted.domain)
    return {**dict(sorted(found.env.items())), **domains, **secrets}


def _app(found: Findings, app: Mapping[str, Any], environment: str) -> str:
    """The app's part of apps.yml, with comments that say where each key comes from."""
    lines = [f"  {found.name}:"]
    notes = {
        "domains": "the first is canonical, the others redirect to it",
        "source": 'a checkout here; or what is pushed: {repo: "git@example.com:me/app.git", ref: main}',
        **found.why,
    }
    for key, value in app.items():
        if key == "env":
            continue
        lines.append(f"    # {_comment(notes.get(key, ''))}")
        lines.append(f"    {key}: {_value(value)}")
    if "migrate" not in app:
        lines.append("    # migrate: a command that brings the database up to date, such as: flask db upgrade")
    lines.append(f"    # secrets are in vault.yml beside this file: zarpar secrets {environment} edit")
    lines.append("    env:")
    lines += [f"      {name}: {_value(value, own=name in found.secrets)}" for name, value in app["env"].items()]
    for name, where in sorted(found.unknown.items()):
        lines.append(f"      # {name}: {_unknown_value(found.name, name)}  # {_comment(where)}")
    return "\n".join(lines) + "\n"


def _unknown_value(app: str, name: str) -> str:
    from zarpar.discover import SECRET_NAME

    return f'"{vault.reference(vault.variable(app, name))}"' if SECRET_NAME.search(name) else '""'


class _Dumper(yaml.SafeDumper):
    """Writes texts that hold Jinja's marks as what they are: texts."""


class _Literal(str):
    """A text that is tagged !unsafe."""


_Dumper.add_representer(_Literal, lambda dumper, data: dumper.represent_scalar("!unsafe", str(data), style='"'))


def _value(value: Any, *, own: bool = False) -> str:
    """A value in one line of YAML; `own`: a reference of ours, which Ansible is to resolve."""
    text = yaml.dump(
        value if own else _literal(value),
        Dumper=_Dumper,
        default_flow_style=True,
        allow_unicode=True,
        sort_keys=False,
        width=10**6,
    )
    return text.removesuffix("\n").removesuffix("\n...")


def _literal(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _literal(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_literal(entry) for entry in value]
    marked = isinstance(value, str) and any(mark in value for mark in ("{{", "{%", "{#"))
    return _Literal(value) if marked else value


def _comment(text: str) -> str:
    """A text as a comment: one line, whatever it holds."""
    return " ".join(plain(text).split())

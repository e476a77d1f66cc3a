"""Zarpar: the wrapper, plain ansible-playbook, and its release playbook alone."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.app import ROOT
from bench.contenders.base import APP, DOMAIN, VALUES, Contender
from bench.lab import Line

BIN = Path(sys.executable).parent


def recap_changed(text: str) -> int | None:
    """Add up Ansible's own count of changed tasks over all hosts."""
    found = re.findall(r"ok=\d+ +changed=(\d+)", text)
    return sum(int(number) for number in found) if found else None


def describe_app(source: Path, domain: str = DOMAIN) -> dict[str, Any]:
    """The app as a user of Zarpar describes it, over plain HTTP."""
    return {
        "domains": [domain],
        "source": {"path": str(source)},
        "tls": "off",
        "database": "postgres",
        "migrate": "flask --app wsgi db upgrade",
        "health": {"path": "/health"},
        "static": {"/static/": "notes/static"},
        "uploads": {"/uploads/": "uploads"},
        "env": {"SECRET_KEY": VALUES["secret_key"], "TRUSTED_PROXIES": 1, "SESSION_COOKIE_SECURE": 0},
    }


def write_inventory(
    folder: Path,
    lines: Sequence[Line],
    apps: Mapping[str, Any],
    database: Line | None = None,
    **settings: Any,
) -> Path:
    """Write an inventory of web servers with their own databases, or with one on another host; return its folder.

    settings: variables of roles.
    """
    everywhere = folder / "group_vars" / "all"
    everywhere.mkdir(parents=True, exist_ok=True)
    common = everywhere / "00_common.yml"
    common.unlink(missing_ok=True)
    common.symlink_to(ROOT / "group_vars" / "all.yml")
    hosts = {
        line.host: {
            "ansible_host": line.address,
            "ansible_port": line.port,
            "ansible_user": "deploy",
            "ansible_ssh_private_key_file": str(line.key),
            "ansible_ssh_common_args": " ".join(line.ssh_options()),
        }
        for line in [*lines, *([database] if database else [])]
    }
    web: dict[str, Any] = {line.host: {} for line in lines}
    groups: dict[str, Any] = {"web": {"hosts": web}, "db": {"hosts": {database.host: {}} if database else web}}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "children": groups}}))
    (everywhere / "apps.yml").write_text(yaml.safe_dump({"apps": dict(apps), **settings}))
    return folder


class Zarpar(Contender):
    """`./scripts/deploy INVENTORY`, which provisions and releases, and `zarpar rollback`."""

    name = "zarpar"
    units = ("zarpar-recover.service",)  # starts the live slot at boot

    def aim(self, line: Line) -> None:
        write_inventory(self.inventory, [line], {APP: describe_app(self.app.folder)})

    @property
    def inventory(self) -> Path:
        return self.folder / "inventories" / self.name

    @property
    def directory(self) -> Path:
        return ROOT

    def command(self, verb: str) -> Sequence[str]:
        if verb == "rollback":
            return [str(BIN / "zarpar"), "rollback", str(self.inventory)]
        return [str(ROOT / "scripts" / "deploy"), str(self.inventory)]

    def changed(self, text: str) -> int | None:
        if re.search(r"^nothing to do", text, re.MULTILINE):
            return 0
        found = re.search(r"^done: (\d+) change", text, re.MULTILINE)
        return int(found[1]) if found else None


class ZarparAnsible(Zarpar):
    """`ansible-playbook site.yml -i INVENTORY` without the wrapper."""

    name = "zarpar-ansible"
    playbooks: Mapping[str, str] = {"deploy": "site.yml", "release": "site.yml", "rollback": "playbooks/rollback.yml"}

    def command(self, verb: str) -> Sequence[str]:
        return [str(BIN / "ansible-playbook"), self.playbooks[verb], "-i", str(self.inventory)]

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}

    def changed(self, text: str) -> int | None:
        return recap_changed(text)


class ZarparRelease(ZarparAnsible):
    """`ansible-playbook playbooks/release.yml`: a release without a look at the rest of the host."""

    name = "zarpar-release"
    verbs = ("release",)
    playbooks: Mapping[str, str] = {**ZarparAnsible.playbooks, "release": "playbooks/release.yml"}

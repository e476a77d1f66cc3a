"""Idiomatic Ansible: one task per thing, with default settings, tuned, and through Mitogen."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.contenders.base import BENCH, PACKAGES, UV, VALUES, Contender
from bench.contenders.zarpar import BIN, recap_changed
from bench.lab import Lab, Line
from bench.process import CommandFailed, run

PLAYBOOKS = {"deploy": "site.yml", "release": "release.yml", "rollback": "rollback.yml"}


class Ansible(Contender):
    """`bench/ansible/` with the settings that Ansible has by itself."""

    name = "ansible"

    def __init__(self, lab: Lab, host: str) -> None:
        super().__init__(lab, host)
        (self.folder / "archives").mkdir()
        (self.folder / "ansible.cfg").write_text("[defaults]\n")
        # Beside the playbooks, so that the templates' names are enough.
        playbooks = self.folder / "playbooks"
        playbooks.mkdir()
        for path in sorted((BENCH / "ansible").iterdir()):
            (playbooks / path.name).symlink_to(path)
        (playbooks / "templates").symlink_to(BENCH / "files")

    def aim(self, line: Line) -> None:
        host = {
            "ansible_host": line.address,
            "ansible_port": line.port,
            "ansible_user": "deploy",
            "ansible_ssh_private_key_file": str(line.key),
            "ansible_ssh_common_args": " ".join(line.ssh_options()),
        }
        variables: dict[str, Any] = {
            **VALUES,
            "packages": list(PACKAGES),
            "uv_version": UV,
            "app_source": str(self.app.folder),
            "archives": str(self.folder / "archives"),
        }
        (self.folder / "hosts.yml").write_text(yaml.safe_dump({"web": {"hosts": {self.host: host}, "vars": variables}}))

    def command(self, verb: str) -> Sequence[str]:
        playbook = str(self.folder / "playbooks" / PLAYBOOKS[verb])
        return [str(BIN / "ansible-playbook"), playbook, "-i", str(self.folder / "hosts.yml")]

    def environment(self) -> Mapping[str, str]:
        # An empty file: not the settings of the project, nor those that this machine may have.
        return {**super().environment(), "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg")}

    def changed(self, text: str) -> int | None:
        return recap_changed(text)


class AnsibleTuned(Ansible):
    """The same playbooks with the settings that every guide names: pipelining, kept connections, no facts."""

    name = "ansible-tuned"
    settings: Mapping[str, str] = {
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_GATHERING": "explicit",
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=300s -o PreferredAuthentications=publickey",
    }

    def environment(self) -> Mapping[str, str]:
        settings = {**self.settings, "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3"}
        return {**super().environment(), **settings}


class Mitogen(AnsibleTuned):
    """The same playbooks through Mitogen's strategy."""

    name = "mitogen"

    def provision(self) -> None:
        """Without Mitogen, which is not known to work on every bare host; `fresh` tells."""
        log = self.folder / "provision.log"
        done = run(self.command("deploy"), cwd=self.directory, environment=super().environment(), log=log)
        self.lab.close_connections()
        if done.code != 0:
            raise CommandFailed(str(done))

    def environment(self) -> Mapping[str, str]:
        found = importlib.util.find_spec("ansible_mitogen")
        folder = Path(found.origin).parent if found and found.origin else Path()
        strategy = {
            "ANSIBLE_STRATEGY_PLUGINS": str(folder / "plugins" / "strategy"),
            "ANSIBLE_STRATEGY": "mitogen_linear",
        }
        return {**super().environment(), **strategy}

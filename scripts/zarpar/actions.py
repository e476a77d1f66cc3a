"""What Zarpar's action plugins share: variables in, zarpar-host called over Ansible's own connection, result out.

The plugins in plugins/action/ are thin; this module is the only one that knows Ansible's internals.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.template import Templar, trust_as_template

from zarpar import compiled, config, pythons, services, variables
from zarpar.errors import BadData, ZarparError

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "plugins" / "zarpar_host"
LIBRARY = "/usr/local/lib/zarpar"
MISSING = "zarpar-host-missing"
HEARTBEAT = 10  # seconds; a lease lasts 45


class HostFailure(ZarparError):
    """zarpar-host, or the way to it, said no. kind: see docs/ARCHITECTURE.md, "Results"."""

    def __init__(self, summary: str, *, detail: str = "", hint: str = "", kind: str = "failed") -> None:
        super().__init__(summary, detail=detail, hint=hint)
        self.kind = kind


@functools.cache
def program() -> tuple[str, dict[str, str]]:
    """zarpar-host's files by their names on the host, and the hash that is their version."""
    texts = {path.name: path.read_text() for path in sorted(PROGRAM.glob("*.py")) if path.name != "bootstrap.py"}
    files = {
        "__main__.py": texts.pop("__main__.py"),
        **{f"zarpar_host/{name}": text for name, text in texts.items()},
    }
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16], files


# Ansible imports this module before it forks a process for each task and host.
compiled.remember()


class ZarparAction(ActionBase):  # type: ignore[misc]  # ansible-core has no type information
    """Base of our action plugins: `work` does it; failures become one clear message."""

    _supports_check_mode = True
    _supports_diff = True
    _requires_connection = True
    TRANSFERS_FILES = False

    _loader: DataLoader
    _templar: Templar

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._renderers: dict[str, Templar] = {}

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ansible's entry point."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            result.update(self.work(dict(task_vars or {})))
        except ZarparError as error:
            result["failed"] = True
            result["msg"] = "\n".join(part for part in (error.summary, error.detail, error.hint) if part)
            told = {"error": getattr(error, "kind", "bad_data"), "hint": error.hint}
            result["zarpar"] = {**result.get("zarpar", {}), **told}
        return result

    def work(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Do the plugin's task and return the result's keys."""
        raise NotImplementedError

    # -- variables ---------------------------------------------------------------------------------------------

    def apps(self, task_vars: Mapping[str, Any]) -> dict[str, config.App]:
        """The apps of the inventory, checked; texts are literal, but for whole references to a variable."""
        raw = variables.literal("apps", task_vars.get("apps"), self.reference)
        return config.load_apps(raw)

    def reference(self, expression: str) -> Any:
        """The value of a text that is one whole reference, such as "{{ vault_shop_secret_key }}".

        Raises BadData for a secret that Ansible would take for a template: its value would be another one.
        """
        name = expression.strip("{} ")
        value = self._templar.available_variables.get(name)
        if isinstance(value, str) and not variables.has_jinja(value):
            return str(value)  # as it is: a line that begins with #jinja2: would be an order to Ansible
        if name.startswith("vault_") and variables.is_template(value):
            raise BadData(
                f"the value of {name} holds Jinja's marks ({{{{ or the like), and is not tagged !unsafe",
                hint=f"Set it anew, which tags it: zarpar secrets ENV set {name}",
            )
        return self._templar.template(trust_as_template(expression))

    def apps_for_host(self, task_vars: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The apps as this host's templates get them, sorted by name."""
        return self._apps_here(self.apps(task_vars), task_vars, fact(task_vars, "zarpar_facts"))

    def scope(self, task_vars: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
        """What templates get beside Ansible's variables (docs/MANIFEST.md)."""
        apps = self.apps(task_vars)
        return {
            "apps": self._apps_here(apps, task_vars, facts),
            "host": facts,
            "services": services.of_host(apps, task_vars),
        }

    def _apps_here(
        self, apps: Mapping[str, config.App], task_vars: Mapping[str, Any], facts: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """The apps for a host; on one whose facts are known, `python` is what uv must give it (empty: nothing)."""
        here = services.apps_for_host(apps, task_vars)
        return pythons.settled(here, fact(task_vars, "zarpar_releases"), facts) if facts else here

    def host_facts(self, task_vars: Mapping[str, Any]) -> dict[str, Any]:
        """The host's facts: those of an earlier answer in this run, else asked for."""
        return fact(task_vars, "zarpar_facts") or self.call("facts", {})

    # -- the host ----------------------------------------------------------------------------------------------

    def call(self, verb: str, request: Mapping[str, Any], payload: bytes = b"") -> dict[str, Any]:
        """Call zarpar-host with a request (and bytes after it), installing this version of it when missing.

        One round trip; two on a host that does not have this version. Raises HostFailure with its words.
        """
        version, files = program()
        body = json.dumps(request).encode() + b"\n" + payload
        folder = f"{LIBRARY}/{version}"
        command = (
            f"if [ -e {folder}/__main__.py ]; then exec /usr/bin/python3 -I -S {folder} {verb};"
            f" else cat >/dev/null; echo {MISSING}; fi"
        )
        out, err = self._shell(command, body)
        if MISSING in out.split():
            bootstrap = (PROGRAM / "bootstrap.py").read_text()
            head = {"program": files, "hash": version, "install": not self._task.check_mode, "verb": verb}
            prepare = (
                ""
                if self._task.check_mode
                else "[ -x /usr/bin/python3 ] || { apt-get -qq update; apt-get -qq -y install python3; }"
                " >/dev/null 2>&1 </dev/null; "
            )
            command = f"{prepare}exec /usr/bin/python3 -I -S -c {shlex.quote(bootstrap)}"
            out, err = self._shell(command, json.dumps(head).encode() + b"\n" + body)
        answer = _answer(out)
        if answer is None:
            raise HostFailure(f"{verb}: the host gave no answer", detail=f"{out}\n{err}".strip()[-2000:])
        if answer.get("failed"):
            summary, _, detail = str(answer["msg"]).partition("\n")
            raise HostFailure(
                summary,
                detail=detail,
                hint=str(answer.get("hint", "")),
                kind=str(answer.get("kind", "failed")),
            )
        return answer

    def keep_leases(self, requests: list[dict[str, Any]]) -> bool:
        """Start the heartbeat for this host's leases; False where it could not log in by itself (passwords)."""
        connection = self._connection
        become = connection.become
        secret = connection.get_option("password") if connection.transport == "ssh" else "-"
        if secret or (become and become.get_option("become_pass", playcontext=self._play_context)):
            return False
        argv = {}
        for verb in ("renew", "unlock"):
            command = f"/usr/bin/python3 -I -S {LIBRARY}/{program()[0]} {verb}"
            command = become.build_become_command(command, connection._shell) if become else command
            argv[verb] = [
                word.decode() if isinstance(word, bytes) else str(word)
                for word in connection._build_command(
                    connection.get_option("ssh_executable"), "ssh", connection.host, command
                )
            ]
        order = {**argv, "pid": os.getppid(), "seconds": HEARTBEAT, "requests": [json.dumps(r) for r in requests]}
        beat = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("heartbeat.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if beat.stdin:
            beat.stdin.write(json.dumps(order).encode())
            beat.stdin.close()
        return True

    def _shell(self, command: str, stdin: bytes) -> tuple[str, str]:
        try:
            done = self._low_level_execute_command(command, in_data=stdin, executable="/bin/sh")
        except AnsibleConnectionFailure:
            raise  # Ansible marks the host unreachable
        if done["rc"] != 0 and ("sudo:" in done["stderr"] or "a password is required" in done["stderr"]):
            raise HostFailure(
                "sudo on the host wants a password",
                detail=done["stderr"].strip()[-500:],
                hint="Allow this user sudo without a password, or give the password with --ask-become-pass.",
                kind="no_sudo",
            )
        return str(done["stdout"]), str(done["stderr"])

    # -- templates ---------------------------------------------------------------------------------------------

    def render(self, value: Any, available: Mapping[str, Any]) -> Any:
        """Render Jinja of our own files (trusted) with these variables."""
        return self._renderer(available).template(value)

    def holds(self, condition: Any, available: Mapping[str, Any]) -> bool:
        """Evaluate a `when` of our own files with these variables."""
        # as a template, which is compiled once for all runs; Ansible compiles conditions anew
        return bool(self.render(trust_as_template(f"{{{{ {condition} }}}}"), available))

    def render_file(self, path: Path, available: Mapping[str, Any]) -> str:
        """Render one template file; its includes are found beside it."""
        text = trust_as_template(self._loader.get_text_file_contents(str(path)))
        templar = self._renderer(available, str(path.parent))
        rendered = templar.template(text, escape_backslashes=False, overrides={"trim_blocks": True})
        return "" if rendered is None else str(rendered)

    def _renderer(self, available: Mapping[str, Any], folder: str = "") -> Templar:
        """A templar with these variables that finds includes in `folder`; made once, for it looks up plugins once."""
        if folder not in self._renderers:
            self._renderers[folder] = self._templar.copy_with_new_env(searchpath=[folder] if folder else None)
        self._renderers[folder].available_variables = dict(available)
        return self._renderers[folder]

    def role_folder(self) -> Path:
        """The folder of the role that this task belongs to."""
        role = self._task._role
        if role is None:
            raise HostFailure("this action is for tasks of a role", kind="bad_manifest")
        return Path(role._role_path)


def fact(task_vars: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A mapping that an earlier task of this run left for this host; empty when there is none."""
    return dict(task_vars.get("ansible_facts", {}).get(name) or {})


def _answer(out: str) -> dict[str, Any] | None:
    """The last line that is a JSON object: whatever a login shell prints before it does not matter."""
    for line in _reversed_lines(out):
        if line.startswith("{"):
            try:
                answer = json.loads(line)
            except ValueError:
                continue
            if isinstance(answer, dict):
                return answer
    return None


def _reversed_lines(text: str) -> Iterator[str]:
    return reversed(text.splitlines())

"""What a contender is: a way to deploy the app, as one command per phase."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.app import App
from bench.lab import Lab, Line

BENCH = Path(__file__).resolve().parents[1]
APP = "notes"
DOMAIN = "notes.example.test"
# What the product computes for two processors, so that all serve with the same number of processes.
WORKERS = 2 * (os.cpu_count() or 1) + 1
UV = "0.13.8"
PACKAGES = (
    "ca-certificates",
    "certbot",
    "logrotate",
    "nginx",
    "openssl",
    "postgresql",
    "python3",
    "python3-venv",
    "ssl-cert",
    "sudo",
    "tzdata",
    "unattended-upgrades",
)
VALUES = {
    "managed": "Managed by the benchmark",
    "app": APP,
    "domain": DOMAIN,
    "workers": WORKERS,
    "secret_key": "only-for-the-benchmark",
    "database_password": "only-for-the-benchmark-too",
}
VERBS = ("deploy", "release", "rollback")


class Contender(ABC):
    """One way to deploy, with a host and a copy of the app of its own.

    name: as in tables; verbs: what is measured of it.
    """

    name: str
    verbs: tuple[str, ...] = VERBS
    first = "deploy"  # the verb that brings a prepared host to the end state
    hello = False  # whether its app has the addresses for load
    units: tuple[str, ...] = (f"{APP}.service",)  # enabled and active at the end, beside nginx and PostgreSQL

    def __init__(self, lab: Lab, host: str) -> None:
        self.lab, self.host = lab, host
        self.folder = lab.folder / self.name
        self.folder.mkdir()
        self.app = App.create(self.folder / APP, hello=self.hello)

    @abstractmethod
    def aim(self, line: Line) -> None:
        """Write the files (inventory, ssh configuration) that lead the next command over this line."""

    @abstractmethod
    def command(self, verb: str) -> Sequence[str]:
        """The argument list of one command; verb is one of `verbs`."""

    @abstractmethod
    def changed(self, text: str) -> int | None:
        """How many changes the command says that it made, or None when it does not say."""

    def provision(self) -> None:  # noqa: B027 - most can do it themselves
        """Prepare a bare host for the first command, where the contender cannot do that itself."""

    @property
    def directory(self) -> Path:
        """The folder in which the command runs."""
        return self.folder

    def environment(self) -> Mapping[str, str]:
        """The whole environment of the command: a home of its own, and nothing of Ansible's or uv's settings."""
        kept = ("PATH", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        return {**environment, "HOME": str(self.lab.home), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}


def render(target: Path) -> None:
    """Write the finished configuration files that a shell script would bring along."""
    target.mkdir(exist_ok=True)
    templates = Environment(
        loader=FileSystemLoader(BENCH / "files"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - no HTML of a visitor's, but configuration files
    )
    for name in templates.list_templates():
        path = target / name.removesuffix(".j2")
        path.write_text(templates.get_template(name).render(VALUES))
        path.chmod(0o600 if name == "env.j2" else 0o644)

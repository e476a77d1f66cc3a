"""Roles' own expressions about Pythons, Debian packages and worker classes, rendered as Ansible renders them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLES = Path(__file__).parents[2] / "roles"


def internals(apps: list[dict[str, Any]], python: str = "3.13") -> dict[str, Any]:
    variables = yaml.safe_load((ROLES / "python" / "vars" / "main.yml").read_text())
    templar = Templar(loader=DataLoader(), variables={"apps": apps, "host": {"python": python}})
    names = ("__python_versions", "__python_system_packages")
    return {name: templar.template(trust_as_template(variables[name])) for name in names}


def test_what_the_apps_of_a_host_need_together() -> None:
    found = internals(
        [
            {"python": "", "system_packages": ["libpq-dev", "gcc"]},
            {"python": "3.12", "system_packages": []},
            {"python": "3.12", "system_packages": ["gcc", "ffmpeg"]},
            {"python": "3.13", "system_packages": []},
        ]
    )
    assert found == {"__python_versions": ["3.12"], "__python_system_packages": ["ffmpeg", "gcc", "libpq-dev"]}


def test_nothing_is_needed() -> None:
    assert internals([{"python": "", "system_packages": []}]) == {
        "__python_versions": [],
        "__python_system_packages": [],
    }


GUNICORN = {
    "workers": 2, "threads": 3, "worker_class": "", "timeout": 1, "graceful_timeout": 1,
    "max_requests": 1, "max_requests_jitter": 1, "preload": "libraries", "limit_request_line": 1,
    "limit_request_fields": 1, "limit_request_field_size": 1, "log_level": "info", "access_log": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("configured", "of_release", "expected"),
    [
        ("", None, "gthread"),  # a release that an older version made
        ("sync", None, "sync"),
        ("", "uvicorn_worker.UvicornWorker", "uvicorn_worker.UvicornWorker"),
        ("gthread", "gevent", "gevent"),  # gone back to
    ],
)
def test_the_release_says_its_worker_class(
    configured: str, of_release: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = (ROLES / "gunicorn_systemd" / "templates" / "gunicorn.conf.py.j2").read_text()
    environment = jinja2.Environment(trim_blocks=True)  # noqa: S701 - not HTML
    environment.filters["to_json"] = environment.filters["tojson"]
    app = {"name": "shop", "logs": "journal", "gunicorn": {**GUNICORN, "worker_class": configured}}
    text = environment.from_string(template).render(app=app, __gunicorn_systemd_workers=2)
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/x")
    monkeypatch.delenv("ZARPAR_WORKER_CLASS", raising=False)
    if of_release:
        monkeypatch.setenv("ZARPAR_WORKER_CLASS", of_release)
    settings: dict[str, Any] = {}
    exec(text, settings)  # noqa: S102 - our own template
    assert settings["worker_class"] == expected
    threads = 3 if expected == "gthread" else None
    assert (settings.get("threads"), settings.get("worker_connections")) == (threads, threads)

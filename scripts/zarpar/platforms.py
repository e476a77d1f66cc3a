"""What the files of other platforms say of an app: render.yaml, app.json and docker-compose.yml. Pure reading."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from zarpar.errors import BadData

COMPOSE = ("docker-compose.yml", "docker-compose.yaml", "compose.yaml", "compose.yml")
POSTGRES = re.compile(r"(^|/)(postgres|postgis|pgvector|timescaledb)(ql)?([/:@-]|$)")
REDIS = re.compile(r"(^|/)(redis|valkey|redis-stack-server)([:@]|$)")
WORKER = re.compile(r"\bcelery\b|\brq(worker| worker|scheduler)|\bdramatiq\b|\bhuey|\bqcluster\b|\bdb_worker\b|\barq\b")


@dataclass
class Said:
    """What one platform's file says. secrets: NAME to value, empty for one to generate. asked: only a person knows."""

    commands: dict[str, str] = field(default_factory=dict)  # web, release
    processes: dict[str, str] = field(default_factory=dict)  # what else runs, by its name
    build: list[str] = field(default_factory=list)
    health: str = ""
    root: str = ""
    postgres: bool = False
    redis: bool = False
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def render(folder: Path) -> Said:
    """render.yaml: its first web service in Python, its workers, databases and Redis; no more can be carried over."""
    said = Said()
    blueprint = _mapping(_yaml(folder / "render.yaml"))
    said.postgres = bool(blueprint.get("databases"))
    for service in map(_mapping, _list(blueprint.get("services"))):
        kind, name = str(service.get("type", "")), str(service.get("name", ""))
        runtime = str(service.get("runtime") or service.get("env") or "python")
        if kind == "web" and runtime == "python" and not said.commands:
            _render_web(said, service)
        elif kind == "worker" and runtime == "python" and service.get("startCommand"):
            said.processes[name] = str(service["startCommand"]).strip()
        elif kind == "cron":
            said.left.append(
                f"render.yaml: the cron job {name} ({service.get('schedule')}): say it by `schedules` (docs/APPS.md)"
            )
        elif kind in ("redis", "keyvalue"):
            said.redis = True
        else:
            said.left.append(f"render.yaml: the service {name} ({kind}, {runtime})")
    return said


def _render_web(said: Said, service: Mapping[str, Any]) -> None:
    pairs = {"web": service.get("startCommand"), "release": service.get("preDeployCommand")}
    said.commands = {name: str(command).strip() for name, command in pairs.items() if command}
    said.health, said.root = str(service.get("healthCheckPath") or ""), str(service.get("rootDir") or "")
    for part in re.split(r"\s*(?:&&|;|\n)\s*", str(service.get("buildCommand") or "").strip()):
        if part and not re.match(r"(python3? -m )?pip3? install|poetry install|uv sync|pipenv (install|sync)", part):
            said.build.append(part)
    for entry in map(_mapping, _list(service.get("envVars"))):
        name = str(entry.get("key", ""))
        if "value" in entry:
            said.env[name] = str(entry["value"])
        elif entry.get("generateValue"):
            said.secrets[name] = ""
        elif "fromDatabase" in entry:
            said.postgres = True
        elif name:
            said.asked.append(name)
    if service.get("disk"):
        said.left.append("render.yaml: the disk: files that stay belong into `uploads` (docs/APPS.md)")


def app_json(folder: Path) -> Said:
    """app.json of Heroku: environment, add-ons, scripts."""
    said = Said()
    path = folder / "app.json"
    if not path.is_file():
        return said
    try:
        whole = _mapping(json.loads(path.read_text()))
    except ValueError as error:
        raise BadData(f"app.json cannot be read: {error}", hint="Mend it, or leave it out.") from error
    for name, entry in _mapping(whole.get("env")).items():
        told = entry if isinstance(entry, Mapping) else {"value": entry}
        if told.get("generator") == "secret":
            said.secrets[str(name)] = ""
        elif told.get("value") not in (None, ""):
            said.env[str(name)] = str(told["value"])
        elif told.get("required", True):
            said.asked.append(str(name))
    for addon in _list(whole.get("addons")):
        plan = str(addon.get("plan", "")) if isinstance(addon, Mapping) else str(addon)
        if plan.startswith("heroku-postgresql"):
            said.postgres = True
        elif re.match(r"heroku-redis|rediscloud|redistogo|heroku-key-value", plan):
            said.redis = True
        else:
            said.left.append(f"app.json: the add-on {plan}")
    for pack in map(_mapping, _list(whole.get("buildpacks"))):
        if "python" not in str(pack.get("url")):
            said.left.append(f"app.json: the buildpack {pack.get('url')}")
    if _mapping(whole.get("scripts")).get("postdeploy"):
        said.left.append("app.json: the script postdeploy; run it once, after the first deploy: zarpar run")
    return said


def compose(folder: Path) -> Said:
    """docker-compose.yml: databases and Redis by image; the app's own service only says which environment it has."""
    said = Said()
    file = next((name for name in COMPOSE if (folder / name).is_file()), "")
    for name, service in _mapping(_mapping(_yaml(folder / file)).get("services")).items() if file else ():
        image = str(_mapping(service).get("image") or "")
        if _mapping(service).get("build"):
            said.asked += [each for each in _names(_mapping(service).get("environment")) if each not in said.asked]
            command = _mapping(service).get("command")
            command = shlex.join(map(str, command)) if isinstance(command, list) else str(command or "").strip()
            if WORKER.search(command):
                said.processes[str(name)] = command
            elif command:
                said.left.append(f"{file}: the command of {name}; web and worker commands belong into a Procfile")
        elif POSTGRES.search(image):
            said.postgres = True
            if "postgres" not in image.rpartition("/")[2].partition(":")[0]:
                said.left.append(f"{file}: the extensions of {image}; PostgreSQL is Debian's own")
        elif REDIS.search(image):
            said.redis = True
            if "stack" in image:
                said.left.append(f"{file}: the modules of {image}; Redis is Debian's own")
        else:
            said.left.append(f"{file}: the service {name} ({image or 'no image'})")
    return said


def _names(environment: object) -> Iterator[str]:
    """The names in a service's environment, which is a mapping or a list of NAME=value; values are for development."""
    if isinstance(environment, Mapping):
        yield from map(str, environment)
    for entry in _list(environment):
        yield str(entry).partition("=")[0]


class _Loader(yaml.SafeLoader):
    """Passes over the tags that only other programs understand."""


_Loader.add_multi_constructor("!", lambda _loader, _tag, _node: None)


def _yaml(path: Path) -> Any:
    if not path.is_file():
        return {}
    try:
        return yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        raise BadData(f"{path.name} cannot be read", detail=str(error), hint="Mend it, or leave it out.") from error


def _mapping(value: object) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []

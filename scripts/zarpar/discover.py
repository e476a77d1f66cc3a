"""What a checkout of an app says of itself, as keys of `apps` (docs/APPS.md) and why. Reads files; runs nothing."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zarpar import appcode, config, lockfiles, platforms, procfile, pythons, weblines
from zarpar.errors import BadData
from zarpar.weblines import ASGI

# Any of these makes a folder an app's.
MARKS = ("Procfile", "pyproject.toml", "requirements.txt", "manage.py", "Pipfile", "setup.py", "wsgi.py", "app.py")
HEALTH = ("/health", "/healthz", "/health-check", "/_health", "/livez", "/readyz", "/up", "/ping", "/status")
POSTGRES_DRIVERS = frozenset({"psycopg", "psycopg2", "psycopg2-binary", "asyncpg", "pg8000", "aiopg"})
QUEUES = frozenset({"celery", "rq", "django-rq", "dramatiq", "huey", "arq"})  # that keep their tasks in Redis
REDIS_CLIENTS = frozenset({"redis", "django-redis", "flask-redis", "channels-redis", "aioredis", "coredis"})
OTHER_DATABASES = {
    "mysqlclient": "MySQL", "pymysql": "MySQL", "aiomysql": "MySQL", "pymongo": "MongoDB", "motor": "MongoDB",
    "mongoengine": "MongoDB",
}  # fmt: skip
SECRET_NAME = re.compile(r"SECRET|PASSWORD|PASSWD|TOKEN|PRIVATE|CREDENTIAL|SALT|_KEY$|_DSN$|^KEY$")
GENERATED = re.compile(r"(^|_)SECRET_KEY(_BASE)?$|^SECRET$|PASSWORD_SALT$")
PROVIDED = frozenset({"PORT", "REDIS_URL", "WEB_CONCURRENCY", "DYNO", "RENDER", "PYTHON_VERSION", "PYTHONPATH"})


@dataclass
class Findings:
    """What an app's folder says. keys: of the app's model; why: where a key was found.

    env: plain values; secrets: NAME to its value, empty for one to generate; unknown: NAME to where it is read, for
    values that only a person knows; left: what cannot be carried over; warnings: what a deploy will stumble over.
    """

    folder: Path
    name: str
    keys: dict[str, Any] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    domain_names: list[str] = field(default_factory=list)  # of variables whose value is the app's domain
    left: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def take(self, key: str, value: Any, why: str) -> None:
        """Take a key's value, unless something likelier said it already."""
        if value not in ("", None, [], {}) and key not in self.keys:
            self.keys[key], self.why[key] = value, why


def discover(checkout: Path) -> Findings:
    """Read an app's checkout, or the one folder of it that holds the app. Raises BadData when there is no app."""
    checkout = checkout.resolve()
    folder = app_folder(checkout)
    project = _toml(folder / "pyproject.toml")
    named = project.get("project", {}).get("name") or project.get("tool", {}).get("poetry", {}).get("name")
    found = Findings(folder, app_name(str(named or folder.name)))
    code = appcode.read(folder)
    needs = requirements(folder, project)
    processes = _procfile(folder)
    said = _platforms(folder, checkout)
    _web(found, processes.get("web", ""), "Procfile, web")
    _web(found, said["render.yaml"].commands.get("web", ""), "render.yaml, startCommand")
    if (folder / "manage.py").is_file():
        _django(found, folder, code)
    _entry(found, folder, code)
    _worker_class(found, code, needs)
    _python(found, folder)
    _migrate(found, folder, processes, said["render.yaml"], needs)
    _build(found, said["render.yaml"])
    _beside(found, processes, said)
    _health(found, said["render.yaml"], code)
    if not (folder / "manage.py").is_file():
        found.take("static", {url: path for url, path in code.static.items() if _servable(url, path)}, "the code")
    _database(found, needs, said)
    if "DATABASE_URL" in code.reads and code.reads["DATABASE_URL"].required:
        found.take("database", "postgres", f"{code.reads['DATABASE_URL'].where} needs DATABASE_URL")
    _redis(found, needs, said)
    if "REDIS_URL" in code.reads and code.reads["REDIS_URL"].required:
        found.take("redis", "cache", f"{code.reads['REDIS_URL'].where} needs REDIS_URL")
    if "UPLOADS_DIR" in code.reads:
        found.take("uploads", {"/uploads/": "uploads"}, f"{code.reads['UPLOADS_DIR'].where} reads UPLOADS_DIR")
    _environment(found, code, said)
    found.left += [text for its in said.values() for text in its.left]
    _rest(found, folder)
    found.left = list(dict.fromkeys(found.left))
    return found


def _platforms(folder: Path, checkout: Path) -> dict[str, platforms.Said]:
    """What other platforms' files say, each looked for beside the app, then at the top of the checkout."""

    def nearest(name: str) -> Path:
        return folder if (folder / name).is_file() else checkout

    compose = next((name for name in platforms.COMPOSE if (nearest(name) / name).is_file()), platforms.COMPOSE[0])
    return {
        "render.yaml": platforms.render(nearest("render.yaml")),
        "app.json": platforms.app_json(nearest("app.json")),
        compose: platforms.compose(nearest(compose)),
    }


def app_folder(checkout: Path) -> Path:
    """The folder with the app: the checkout, what render.yaml calls rootDir, or the only subfolder that has one."""
    if not checkout.is_dir():
        raise BadData(f"there is no folder {checkout}")
    root = platforms.render(checkout).root
    if root and _below(checkout, root):
        return checkout / root
    if any((checkout / mark).is_file() for mark in MARKS):
        return checkout
    inside = [
        path
        for path in sorted(checkout.iterdir())
        if path.is_dir() and not path.name.startswith(".") and any((path / mark).is_file() for mark in MARKS)
    ]
    if len(inside) == 1:
        return inside[0]
    if inside:
        names = ", ".join(path.name for path in inside)
        raise BadData(f"{checkout} holds several apps: {names}", hint="Name one: zarpar init FOLDER")
    raise BadData(
        f"{checkout} does not look like a Python web app",
        detail=f"Looked for: {', '.join(MARKS)}.",
        hint="Go to the app's checkout, or name it: zarpar init FOLDER",
    )


def app_name(text: str) -> str:
    """An app's name (docs/APPS.md) made of any text."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:26].strip("-")
    name = name if name[:1].isalpha() else f"app-{name}".strip("-")
    return f"{name}-app" if config.name_problem(name) else name


def requirements(folder: Path, project: dict[str, Any]) -> set[str]:
    """The names of the app's direct dependencies, as pyproject.toml, requirements.txt or Pipfile say them."""
    lines = [str(line) for line in project.get("project", {}).get("dependencies", [])]
    lines += list(project.get("tool", {}).get("poetry", {}).get("dependencies", {}))
    lines += list(_toml(folder / "Pipfile").get("packages", {}))
    lines += _requirement_lines(folder / "requirements.txt", {folder / "requirements.txt"})
    names = (re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line) for line in lines)
    return {re.sub(r"[-_.]+", "-", match.group(1)).lower() for match in names if match}


def _requirement_lines(path: Path, seen: set[Path]) -> list[str]:
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text(errors="replace").splitlines():
        other = re.match(r"(?:-r|--requirement)[ =]+(\S+)", line)
        if other:
            further = path.parent / other.group(1)
            if further not in seen:
                lines += _requirement_lines(further, seen | {further})
        else:
            lines.append(line)
    return lines


def in_shell(command: str) -> str:
    """A command as Zarpar runs it, which is without a shell: one that needs a shell gets its own."""
    words = command.split()
    needs = re.search(r"[|&;<>$`*?~\n]", command) or (words and (words[0].startswith("./") or "=" in words[0]))
    return f"sh -c {shlex.quote(' '.join(command.splitlines()))}" if needs else command


def server_settings(command: str) -> dict[str, Any]:
    """The settings of a web command: wsgi, and gunicorn's timeout, threads and worker_class where they are given."""
    try:
        words = shlex.split(command)
    except ValueError:
        return {}
    line = weblines.read(command)
    found: dict[str, Any] = {"wsgi": line.target}
    found["worker_class"] = line.worker_class or weblines.option(words, "-k", "--worker-class")
    for name, flags in {"timeout": ("-t", "--timeout"), "threads": ("--threads",)}.items():
        value = weblines.option(words, *flags)
        found[name] = int(value) if value.isdecimal() else 0
    return {name: value for name, value in found.items() if value}


def _web(found: Findings, command: str, why: str) -> None:
    settings = server_settings(command) if command else {}
    line = weblines.read(command)
    if line.folder:
        found.left.append(f"{why}: it changes to {line.folder}; if that folder is the app: zarpar init {line.folder}")
    found.take("server", line.server, why)
    found.take("wsgi", settings.pop("wsgi", ""), why)
    try:
        config.Gunicorn.model_validate(settings)
    except ValueError:
        found.left.append(f"{why}: settings of its server that Zarpar does not know; see gunicorn in docs/APPS.md")
        return
    found.take("gunicorn", settings, why)
    if command and "wsgi" not in found.keys:
        found.left.append(f"{why}: {command!r} names no module:callable for gunicorn")


def _procfile(folder: Path) -> dict[str, str]:
    """What the Procfile runs. What is not web is run by default, so there is nothing to write of it."""
    path = folder / "Procfile"
    return procfile.parse(path.read_text(errors="replace")) if path.is_file() else {}


def _django(found: Findings, folder: Path, code: appcode.Code) -> None:
    """manage.py names the settings; those name static files and uploads."""
    module = weblines.django_settings((folder / "manage.py").read_text(errors="replace"))
    project = module.partition(".")[0]
    if project and (folder / project / "wsgi.py").is_file():
        found.take("wsgi", f"{project}.wsgi:application", f"manage.py, {project}/wsgi.py")
    found.take("migrate", "python manage.py migrate --noinput", "manage.py")
    file = module.replace(".", "/")
    values: dict[str, Any] = {}
    for name in (f"{file}/__init__.py", f"{file.rpartition('/')[0]}/base.py", f"{file}.py"):
        values |= appcode.settings_values(code.texts.get(name, ""))
    root, url = appcode.folder_of(values.get("STATIC_ROOT")), appcode.folder_of(values.get("STATIC_URL")) or "static/"
    prefix = f"/{url.strip('/')}/"
    if root and _servable(prefix, root):
        found.take("static", {prefix: root}, f"{file}.py, STATIC_ROOT")
        found.keys.setdefault("build", []).append("python manage.py collectstatic --noinput")
        found.why.setdefault("build", "manage.py")
    elif values:
        found.left.append("static files: the settings name no STATIC_ROOT, so there is none for collectstatic to fill")
    media = f"/{(appcode.folder_of(values.get('MEDIA_URL')) or 'media').strip('/')}/"
    if "MEDIA_ROOT" in values and re.fullmatch(config.URL_PREFIX, media):
        found.take("uploads", {media: media.strip("/")}, "the settings, MEDIA_URL")
        if "UPLOADS_DIR" not in code.reads:
            found.warnings.append('uploads: let the settings say MEDIA_ROOT = os.environ["UPLOADS_DIR"]')


def _entry(found: Findings, folder: Path, code: appcode.Code) -> None:
    if code.entries:
        best = code.entries[0]
        if best.file.startswith("src/"):
            found.env.setdefault("PYTHONPATH", "src")
        found.take("wsgi", best.loaded_as, best.file)
    if "wsgi" not in found.keys:
        found.warnings.append(
            f"no entry point was found in {folder.name}: say wsgi: module:callable in apps.yml"
            " (a wsgi.py with a variable `app` is found by itself)"
        )


def _worker_class(found: Findings, code: appcode.Code, needs: set[str]) -> None:
    """An app that speaks ASGI needs a worker that does."""
    kind = next((entry.kind for entry in code.entries if entry.loaded_as == found.keys.get("wsgi")), "")
    if kind == "asgi" and "worker_class" not in found.keys.get("gunicorn", {}):
        found.keys.setdefault("gunicorn", {})["worker_class"] = ASGI
        found.why.setdefault("gunicorn", "an ASGI app")
    chosen = found.keys.get("gunicorn", {}).get("worker_class", "")
    server = found.keys.get("server", "gunicorn")
    asgi = "uvicorn" if chosen == ASGI and server == "gunicorn" else ""
    missing = [name for name in (server, asgi) if name and name not in needs]
    if chosen == "gevent" and "gevent" not in needs:
        missing.append("gevent")
    for name in missing:
        does = (
            "add it: uv add, or your tool" if name == "gevent" else "Zarpar adds its own; add it to choose the version"
        )
        found.warnings.append(f"{name}: not among the app's dependencies; {does}")


def _python(found: Findings, folder: Path) -> None:
    """The Python that the checkout asks for is read anew by each deploy: only what it will not follow is told."""
    paths = [folder / name for name in pythons.FILES]
    wish = pythons.wish("", {path.name: path.read_text(errors="replace") for path in paths if path.is_file()})
    found.warnings += [wish.note] if wish.note else []


def _migrate(found: Findings, folder: Path, processes: dict[str, str], render: platforms.Said, needs: set[str]) -> None:
    for command, why in (
        (processes.get("release", ""), "Procfile, release"),
        (render.commands.get("release", ""), "render.yaml, preDeployCommand"),
    ):
        if command:
            found.keys.pop("migrate", None)  # likelier than what manage.py alone tells
            found.take("migrate", in_shell(command), why)
            return
    wsgi = str(found.keys.get("wsgi", "")).removesuffix("()")
    if (folder / "migrations" / "env.py").is_file() and needs & {"flask-migrate", "flask-alembic"}:
        found.take("migrate", f"flask --app {wsgi} db upgrade" if wsgi else "flask db upgrade", "migrations/")
    elif (folder / "alembic.ini").is_file():
        found.take("migrate", "alembic upgrade head", "alembic.ini")


def _build(found: Findings, render: platforms.Said) -> None:
    already = found.keys.get("build", [])
    more = [in_shell(part) for part in render.build if part not in already and "collectstatic" not in part]
    more += [in_shell(part) for part in render.build if "collectstatic" in part and not already]
    more = [part for part in more if "migrate" not in part.split()]
    if more:
        found.keys.setdefault("build", []).extend(more)
        found.why.setdefault("build", "render.yaml, buildCommand")


def _beside(found: Findings, lines: dict[str, str], said: dict[str, platforms.Said]) -> None:
    """What other platforms run beside the web server, unless a Procfile says it, which counts by itself."""
    if any(name not in procfile.APART for name in lines):
        return
    for file, its in said.items():
        fits = {}
        for name, command in its.processes.items():
            wanted = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
            if _fits(wanted, command):
                fits[wanted] = {"command": command}
            else:
                found.left.append(f"{file}: the command of {name}; say it by `processes` (docs/APPS.md)")
        found.take("processes", fits, file)


def _fits(name: str, command: str) -> bool:
    """Whether a process could be a line of a Procfile."""
    try:
        return name not in procfile.APART and procfile.parse(f"{name}: {command}") == {name: command}
    except BadData:
        return False


def _health(found: Findings, render: platforms.Said, code: appcode.Code) -> None:
    path, why = render.health, "render.yaml"
    if not path:
        path, why = appcode.first_route(code.routes, HEALTH), "the code has this route"
    if not path:
        path, why = "/", "no route like /health was found: this page must answer 200"
    found.take("health", {"path": path}, why)


def _database(found: Findings, needs: set[str], said: dict[str, platforms.Said]) -> None:
    drivers = sorted(needs & POSTGRES_DRIVERS)
    if drivers:
        found.take("database", "postgres", f"it depends on {drivers[0]}")
    for file, its in said.items():
        if its.postgres:
            found.take("database", "postgres", file)
    for package in sorted(needs & set(OTHER_DATABASES)):
        found.left.append(f"{OTHER_DATABASES[package]}: only PostgreSQL is set up; keep yours where it is")


def _redis(found: Findings, needs: set[str], said: dict[str, platforms.Said]) -> None:
    """A broker, which keeps what it is given, where tasks are queued in it; else a cache."""
    for kind, packages in (("broker", QUEUES), ("cache", REDIS_CLIENTS)):
        for package in sorted(needs & packages):
            found.take("redis", kind, f"it depends on {package}")
    for file, its in said.items():
        if its.redis:
            found.take("redis", "cache", file)


def _environment(found: Findings, code: appcode.Code, said: dict[str, platforms.Said]) -> None:
    """Every name: with its value, to be generated, or with nothing but where it is read."""
    found.secrets["SECRET_KEY"] = ""
    for its in said.values():
        for name, value in its.env.items():
            if _ours(name):
                (found.secrets if SECRET_NAME.search(name) else found.env)[name] = value
        found.secrets |= {name: value for name, value in its.secrets.items() if _ours(name)}
    for file, its in said.items():
        for name in its.asked:
            _unknown(found, name, file)
    for name, read in code.reads.items():
        if name.endswith("ALLOWED_HOSTS") and _ours(name):
            found.domain_names.append(name)
        elif GENERATED.search(name) and _ours(name):
            found.secrets.setdefault(name, "")
        elif read.required or SECRET_NAME.search(name):
            _unknown(found, name, read.where)
    if "SECRET_KEY" not in code.reads and any(GENERATED.search(name) for name in found.secrets if name != "SECRET_KEY"):
        del found.secrets["SECRET_KEY"]
    for names in (found.env, found.secrets, found.unknown):
        for name in found.domain_names:
            names.pop(name, None)


def _unknown(found: Findings, name: str, where: str) -> None:
    if GENERATED.search(name) and _ours(name):
        found.secrets.setdefault(name, "")
    elif _ours(name) and name not in found.env and name not in found.secrets:
        found.unknown.setdefault(name, where)


def _ours(name: str) -> bool:
    """Whether an app may be given this name, and does not get it from Zarpar anyhow."""
    fits = config.ENV_NAME.fullmatch(name) and not name.startswith("ZARPAR_")
    return bool(fits) and name not in config.RESERVED_ENV | PROVIDED


def _rest(found: Findings, folder: Path) -> None:
    paths = [folder / name for name in lockfiles.NAMES]
    unlocked = lockfiles.note({path.name: path.read_text(errors="replace") for path in paths if path.is_file()})
    found.warnings += [unlocked] if unlocked else []
    for name, what in (
        ("Dockerfile", "is not used: Zarpar runs the app on Debian itself"),
        ("Aptfile", "names Debian packages, which are not installed"),
        ("package.json", "is not built: commit what it makes, or let CI make it"),
        ("nginx.conf", "is not used: nginx is configured by what apps.yml says"),
    ):
        if (folder / name).is_file():
            found.left.append(f"{name}: {what}")
    if not (folder / ".git").exists() and not _in_git(folder):
        found.warnings.append("no Git checkout: a release is a commit; git init && git add -A && git commit -m First")


def _in_git(folder: Path) -> bool:
    return any((parent / ".git").exists() for parent in folder.resolve().parents)


def _servable(url: str, path: str) -> bool:
    fits = re.fullmatch(config.URL_PREFIX, url) and re.fullmatch(config.TREE_PATH, path)
    return bool(fits) and ".." not in path.split("/") and ".." not in url


def _below(checkout: Path, name: str) -> bool:
    """Whether a name leads to a folder inside the checkout."""
    inside = Path(os.path.normpath(checkout / name)).is_relative_to(checkout)
    return inside and (checkout / name).is_dir()


def _toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadData(f"{path.name} cannot be read: {error}", hint="Mend it first.") from error

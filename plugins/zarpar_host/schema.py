"""What is known of an app's database schema: its present head, and the migrations that a release knows.

Alembic (Flask-Migrate) and Django are understood; for anything else nothing is known, and nothing is refused.
"""

from __future__ import annotations

import ast
import contextlib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from zarpar_host import envfile
from zarpar_host.errors import HostError
from zarpar_host.run import Completed, run
from zarpar_host.state import Places, load

SKIPPED = {".git", ".venv", "node_modules", "__pycache__"}
TABLES = "SELECT to_regclass('alembic_version'), to_regclass('django_migrations')"
ALEMBIC_HEADS = "SELECT version_num FROM alembic_version ORDER BY 1"
DJANGO_HEADS = "SELECT app || '.' || name FROM django_migrations ORDER BY 1"


def connection(url: str) -> dict[str, str]:
    """libpq's environment for a DATABASE_URL: so that a password is in no argument list."""
    parts = urlsplit(url)
    values = {
        "PGHOST": parts.hostname or "",
        "PGPORT": str(parts.port or ""),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": parts.path.lstrip("/"),
        "PGCONNECT_TIMEOUT": "10",
        "HOME": "/nonexistent",  # libpq looks there for client certificates, and fails on a folder it may not read
    }
    names = {"host": "PGHOST", "sslmode": "PGSSLMODE", "port": "PGPORT", "user": "PGUSER"}
    values |= {names[key]: value for key, value in parse_qsl(parts.query) if key in names}
    return {name: value for name, value in values.items() if value}


def psql(places: Places, url: str, sql: str, timeout: float = 30) -> Completed:
    """Run SQL as the app's own user and role."""
    argv = ["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]
    return run(argv, user=places.app, cwd="/", env=connection(url), stdin=sql + ";\n", timeout=timeout, check=False)


def heads(places: Places, url: str) -> list[str]:
    """The migrations that the database is at (Alembic's heads; all of Django's); empty when there are none."""
    alembic, _, django = _ask(places, url, TABLES).strip().partition("|")
    if alembic:
        return _ask(places, url, ALEMBIC_HEADS).split()
    return _ask(places, url, DJANGO_HEADS).split() if django else []


def _ask(places: Places, url: str, sql: str) -> str:
    done = psql(places, url, sql)
    if done.code != 0:
        raise HostError("the database cannot be asked for its schema", detail=done.tail, kind="migrate")
    return done.out


def known(tree: Path) -> dict[str, Any]:
    """The migrations in a source tree: {"revisions": [...], "tips": [...]}; tips are Alembic's newest."""
    revisions: set[str] = set()
    replaced: set[str] = set()
    for path in tree.rglob("*.py"):
        if SKIPPED.intersection(path.parts):
            continue
        if path.parent.name == "versions":
            revision, downs = _alembic(path)
            if revision:
                revisions.add(revision)
                replaced.update(downs)
        elif path.parent.name == "migrations" and path.name[:4].isdigit():
            revisions.add(f"{path.parent.parent.name}.{path.stem}")
    return {"revisions": sorted(revisions), "tips": sorted(revisions - replaced)}


def _alembic(path: Path) -> tuple[str, list[str]]:
    """`revision` and `down_revision` of an Alembic file; read as text, never run."""
    found: dict[str, Any] = {}
    try:
        module = ast.parse(path.read_text(errors="replace"))
    except (SyntaxError, ValueError):
        return "", []
    for node in module.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and target.id in ("revision", "down_revision") and value is not None:
            with contextlib.suppress(ValueError):
                found[target.id] = ast.literal_eval(value)
    down = found.get("down_revision") or []
    return str(found.get("revision") or ""), [down] if isinstance(down, str) else [str(name) for name in down]


def require_known(places: Places, release: str) -> None:
    """Raise HostError, kind "schema", when a release does not know a migration that the database has."""
    from zarpar_host.releases import settings_of  # they need each other

    knows = settings_of(places, release).get("schema") or {}
    if not knows.get("revisions"):
        return
    values = envfile.parse(places.environment(release).read_text())
    url = values.get("DATABASE_URL", "")
    present = heads(places, url) if url.startswith("postgres") else []
    foreign = [name for name in present if name not in knows["revisions"] and _is_ours(name, knows["revisions"])]
    if foreign:
        live = load(places).live
        raise HostError(
            f"release {release} does not know the database's schema ({', '.join(foreign[:3])})",
            detail=f"It was migrated for {live.release if live else 'a later release'}; the older code may fail on it"
            " or damage data.",
            hint="Deploy a commit that takes the migration back, or go back all the same with --force.",
            kind="schema",
        )


def _is_ours(name: str, revisions: list[str]) -> bool:
    """Django names its own apps' migrations too; only those of apps that the tree has count."""
    return "." not in name or name.split(".")[0] in {revision.split(".")[0] for revision in revisions}

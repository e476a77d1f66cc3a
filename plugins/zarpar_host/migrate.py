"""Migrations: in the new release, with its environment, before any host switches; once for each release.

One runner at a time (an advisory lock in the database itself, which ends with the connection), limits on locks and
statements, and a dump of the database before a migration that will change it.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zarpar_host import envfile, lease, schema
from zarpar_host.errors import HostError
from zarpar_host.releases import command_run, settings_of
from zarpar_host.run import BASE_ENVIRONMENT, identity, run
from zarpar_host.state import Places, deploying, load, locked, record, save

DUMP = "before-migration.dump"
DUMP_LIMIT = 3600
ALEMBIC_UPGRADE = re.compile(
    r"(python3? -m )?(flask( (--app|-A)[ =][\w.:]+)? db|alembic( (--config|-c)[ =][\w./-]+)?) upgrade( heads?)?"
)
LOCK_NAME = "zarpar migration"
SESSION_NAME = "zarpar-migration"
# Materialized, and a CASE: else the planner may cancel first and ask afterwards whom it was to cancel.
CANCEL = """
WITH migration AS MATERIALIZED (
  SELECT pid,
         EXISTS (SELECT FROM pg_locks AS lock WHERE lock.pid = session.pid AND NOT granted
                 AND waitstart < clock_timestamp() - interval '{lock} s') AS waits,
         state = 'active' AND query_start < clock_timestamp() - interval '{statement} s' AS lasts
  FROM pg_stat_activity AS session
  WHERE usename = current_user AND datname = current_database() AND application_name = '{name}'
    AND pid <> pg_backend_pid())
SELECT CASE WHEN waits THEN 'Canceled: it waited for a lock for more than {lock} s (lock timeout).'
            ELSE 'Canceled: a statement ran for more than {statement} s (statement timeout).' END
FROM migration
WHERE CASE WHEN waits OR lasts THEN pg_cancel_backend(pid) ELSE false END
"""


def migrate(request: dict[str, Any], root: Path = Path("/")) -> dict[str, Any]:
    """Run a prepared release's migration command, as the app's user. request: app (its name), release, by, lease.

    Nothing to do when the release has none or has run it already. A failure leaves the old release serving, and
    says what was applied.
    """
    places = Places(request["app"], root)
    release = request["release"]
    lease.hold(places, request)
    with deploying(places, request.get("by", ""), "migrate"):
        settings = settings_of(places, release)
        if not settings["migrate"] or load(places).releases[release].get("migrated"):
            return {"outcome": "unchanged", "changed": False}
        started = time.monotonic()
        values = envfile.parse(places.environment(release).read_text())
        url = values.get("DATABASE_URL", "")
        database = url if url.startswith("postgres") else ""
        with _alone(places, database):
            before = schema.heads(places, database) if database else []
            if is_applied(settings["migrate"], settings["schema"]["tips"], before):
                _note(places, request, before, 0)
                return {"outcome": "unchanged", "changed": False, "schema": before}
            dumped = _dump(places, release, settings, database, before)
            ended: list[str] = []
            try:
                with _limited(places, database, settings["app"]["migration"], ended):
                    output = _run(places, release, settings, values)
            except HostError as error:
                error.detail = "\n".join(filter(None, [error.detail, *ended]))
                _explain(places, database, before, error)
                record(places, "migration failed", release=release, by=request.get("by", ""), why=error.summary)
                raise
            after = schema.heads(places, database) if database else []
        seconds = round(time.monotonic() - started, 2)
        _note(places, request, after, seconds)
        record(places, "migrated", release=release, seconds=seconds, before=before, after=after, dump=dumped)
    return {"outcome": "migrated", "changed": True, "detail": output, "schema": after}


def _note(places: Places, request: dict[str, Any], heads: list[str], seconds: float) -> None:
    """Enter into the state that a release has run its migration."""
    with locked(places, request.get("by", ""), "migrate"):
        state = load(places)
        state.note(request["release"], migrated=True, schema=heads)
        state.took(request["release"], seconds)
        save(places, state)


def is_applied(command: str, tips: list[str], heads: list[str]) -> bool:
    """Whether a command is Alembic's own upgrade, and the database is at the tree's newest migrations already.

    Then it would do nothing but load the app, which takes longer than all else of most releases.
    """
    return bool(tips) and sorted(tips) == sorted(heads) and ALEMBIC_UPGRADE.fullmatch(command.strip()) is not None


def _run(places: Places, release: str, settings: dict[str, Any], values: dict[str, str]) -> str:
    limits = settings["app"]["migration"]
    options = f"-c lock_timeout={limits['lock_timeout']}s -c statement_timeout={limits['statement_timeout']}s"
    values = {**values, "PGOPTIONS": f"{values.get('PGOPTIONS', '')} {options}".strip(), "PGAPPNAME": SESSION_NAME}
    tree = places.release(release) / "src"
    return command_run(settings["migrate"], places.app, tree, values, limits["timeout"], "migrate")


@contextlib.contextmanager
def _limited(places: Places, database: str, limits: dict[str, Any], ended: list[str]) -> Iterator[None]:
    """Cancel what waits for a lock, or runs, for too long; what was cancelled is told in `ended` afterwards.

    PGOPTIONS alone does not do: an app that gives connection options of its own replaces it.
    """
    if not database:
        yield
        return
    query = CANCEL.format(
        name=SESSION_NAME, lock=int(limits["lock_timeout"]), statement=int(limits["statement_timeout"])
    )
    with tempfile.TemporaryFile("w+") as said:
        watcher = subprocess.Popen(
            ["psql", "-X", "-A", "-t", "-q"],  # noqa: S607
            env={**BASE_ENVIRONMENT, **schema.connection(database)},
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd="/",
            **identity(places.app),  # type: ignore[call-overload]
        )
        watcher.stdin.write(f"{' '.join(query.split())} \\watch 1\n")
        watcher.stdin.flush()
        try:
            yield
        finally:
            watcher.kill()
            watcher.wait()
            watcher.stdin.close()
            said.seek(0)
            ended += dict.fromkeys(line.strip() for line in said if line.startswith("Canceled"))


def _explain(places: Places, database: str, before: list[str], error: HostError) -> None:
    """Add to a failure what the database is at now."""
    error.hint = error.hint or "The release that was live still serves. Mend the migration and deploy again."
    if not database:
        return
    with contextlib.suppress(HostError):
        after = schema.heads(places, database)
        applied = ", ".join(name for name in after if name not in before) or "nothing"
        error.detail = f"{error.detail}\nApplied before it failed: {applied}.".strip()


def _dump(places: Places, release: str, settings: dict[str, Any], database: str, before: list[str]) -> bool:
    """Keep a checked dump with the release, unless the database is new or its migrations are all applied."""
    tips = settings["schema"]["tips"]
    if not database or not settings["app"]["migration"]["dump"] or not before or (tips and set(tips) <= set(before)):
        return False
    target = places.release(release) / DUMP
    partial = target.with_suffix(".partial")
    environment = schema.connection(database)
    try:
        with partial.open("wb") as handle:
            os.fchmod(handle.fileno(), 0o600)
            done = subprocess.run(
                ["pg_dump", "--format=custom", "--lock-wait-timeout=30s"],  # noqa: S607
                env={**BASE_ENVIRONMENT, **environment},
                stdout=handle,
                stderr=subprocess.PIPE,
                timeout=DUMP_LIMIT,
                check=False,
                cwd="/",
                **identity(places.app),  # type: ignore[call-overload]
            )
            os.fsync(handle.fileno())
        listed = run(["pg_restore", "--list", str(partial)], check=False)
        if done.returncode != 0 or listed.code != 0:
            raise HostError(
                "the database could not be dumped, so it was not migrated",
                detail=(done.stderr.decode(errors="replace") + listed.err).strip(),
                hint="`migration: {dump: false}` of the app goes without the dump.",
                kind="migrate",
            )
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def _alone(places: Places, database: str) -> Iterator[None]:
    """Hold an advisory lock of the app's database: another host's migration is refused, not waited for."""
    if not database:
        yield
        return
    argv = ["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]
    with subprocess.Popen(  # noqa: S603 - fixed words
        argv,
        env={**BASE_ENVIRONMENT, **schema.connection(database)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        **identity(places.app),  # type: ignore[call-overload]
    ) as session:
        if session.stdin is None or session.stdout is None:  # never: both are pipes
            raise HostError("psql was started without pipes")
        session.stdin.write(f"SELECT pg_try_advisory_lock(hashtext('{LOCK_NAME}'));\n")
        session.stdin.flush()
        answer = session.stdout.readline().strip()
        if answer != "t":
            session.stdin.close()
            busy = "another migration of this app is running" if answer == "f" else "the database cannot be reached"
            raise HostError(busy, detail=(answer if answer != "f" else "") + session.stdout.read(), kind="migrate")
        try:
            yield
        finally:
            session.stdin.close()

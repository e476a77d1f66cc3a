"""A PostgreSQL role and database for each app: its own, and nobody else's."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from typing import Any

from zarpar_host.context import Context, Item
from zarpar_host.errors import HostError
from zarpar_host.run import run

ITERATIONS = 4096


def postgres(context: Context, item: Item) -> bool:
    """Roles and databases: item["postgres"] is a list of {name, password}.

    A role logs in by peer over the socket; with a password also by scram from the hosts in pg_hba.conf. The
    password is stored as its scram verifier, so it reaches neither the server's log nor its statistics.
    """
    try:
        state = _state()
    except HostError:
        if context.check:  # a bare host: PostgreSQL would have been installed by then
            return bool(item["postgres"])
        raise
    statements = [statement for app in item["postgres"] for statement in _statements(app, state)]
    if statements and not context.check:
        for statement in statements:
            _psql(statement)
    return bool(statements)


def _statements(app: dict[str, str], state: dict[str, Any]) -> list[str]:
    name, role = app["name"], quote_name(app["name"])
    statements = []
    if name not in state["roles"]:
        statements.append(f"CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION")
    password = app.get("password") or ""
    stored = state["roles"].get(name) or ""
    if password and not scram_matches(stored, password):
        statements.append(f"ALTER ROLE {role} PASSWORD {quote_text(scram_verifier(password))}")
    if not password and stored:
        statements.append(f"ALTER ROLE {role} PASSWORD NULL")
    if name not in state["databases"]:
        statements.append(f"CREATE DATABASE {role} OWNER {role} TEMPLATE template0 ENCODING 'UTF8'")
    if state["databases"].get(name, True):
        statements.append(f"REVOKE ALL ON DATABASE {role} FROM PUBLIC")
    return statements


def _state() -> dict[str, Any]:
    """Roles with their stored password, and databases with whether everybody may connect."""
    query = """SELECT json_build_object(
        'roles', (SELECT json_object_agg(rolname, rolpassword) FROM pg_authid),
        'databases', (SELECT json_object_agg(datname, has_database_privilege('public', oid, 'CONNECT'))
                      FROM pg_database))"""
    state: dict[str, Any] = json.loads(_psql(query))
    return state


def _psql(statement: str) -> str:
    argv = ["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", "postgres"]
    done = run(argv, user="postgres", cwd="/", stdin=statement + ";\n", check=False)
    if done.code != 0:
        raise HostError("PostgreSQL refused a statement", detail=done.tail)
    return done.out


def quote_name(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def scram_verifier(password: str, salt: bytes = b"") -> str:
    """What PostgreSQL stores for a password (RFC 5803 form, SCRAM-SHA-256)."""
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    client = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = [base64.b64encode(part).decode() for part in (salt, client, server)]
    return f"SCRAM-SHA-256${ITERATIONS}:{parts[0]}${parts[1]}:{parts[2]}"


def scram_matches(verifier: str, password: str) -> bool:
    """Whether a stored verifier is this password's."""
    try:
        salt = base64.b64decode(verifier.split("$")[1].split(":")[1])
    except (IndexError, ValueError):
        return False
    return hmac.compare_digest(verifier, scram_verifier(password, salt))

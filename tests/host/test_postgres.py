"""PostgreSQL: open to each app for its own database, and closed to everybody else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from environment import App, Server
from on_host import Machine

pytestmark = pytest.mark.on("db")


@pytest.fixture
def database(app: App) -> str:
    """The name of the app's database, which is also the name of its role and its account."""
    if app["database"] != "postgres":
        pytest.skip(f"{app['name']} has no database")
    return str(app["name"])


@pytest.fixture
def account(server: Server, database: str) -> str:
    """The app's account on the database's host."""
    if "web" not in server.groups:
        pytest.skip(f"{database} runs on other hosts than its database")
    return database


@pytest.fixture(scope="session")
def postgres(server: Server, machine: Machine) -> dict[str, Any]:
    """What the server says of itself, asked once."""
    if not any(app["database"] == "postgres" for app in server.apps):
        pytest.skip(f"no app of {server.name} has a database")
    answer: dict[str, Any] = json.loads(machine.check("cd / && runuser -u postgres -- psql -XAtqc %s", OVERVIEW))
    return answer


def test_settings_are_in_effect(server: Server, postgres: dict[str, Any]) -> None:
    settings = postgres["settings"]
    assert settings["data_checksums"] == "on", "a cluster from before Zarpar: pg_checksums --enable"
    wanted = {
        "max_connections": str(server.settings["postgres_max_connections"]),
        "password_encryption": "scram-sha-256",
    }
    assert {name: settings[name] for name in wanted} == wanted
    assert postgres["faults"] == [], "PostgreSQL refuses parts of its configuration"
    assert postgres["waiting"] == [], "these settings wait for a restart"


def test_listens_as_needed_only(server: Server, machine: Machine, postgres: dict[str, Any]) -> None:
    addresses = {address for address, _, program in machine.listeners if program == "postgres"}
    if server.clients:
        assert addresses == {server.address}, addresses
    else:
        assert addresses == set(), f"nobody needs PostgreSQL over the network: {addresses}"
        assert postgres["settings"]["listen_addresses"] == ""


def test_only_strong_logins_are_let_in(postgres: dict[str, Any]) -> None:
    assert {rule["auth_method"] for rule in postgres["rules"]} <= {"peer", "scram-sha-256"}, postgres["rules"]
    assert {rule["type"] for rule in postgres["rules"]} <= {"local", "hostssl"}, postgres["rules"]


def test_app_gets_its_database(machine: Machine, account: str) -> None:
    shown = machine.check(f"cd / && runuser -u {account} -- psql -XAtqc %s", "SELECT current_user, current_database()")
    assert shown == f"{account}|{account}"


def test_role_may_nothing_else(database: str, postgres: dict[str, Any]) -> None:
    may = {right for right, granted in postgres["roles"][database].items() if granted}
    assert may == {"rolcanlogin"}, f"{database} may {may}"
    owner, encoding, public = postgres["databases"][database]
    assert (owner, encoding) == (database, "UTF8")
    assert not public, f"everybody may connect to {database}"


@pytest.mark.parametrize("stranger", ["nobody", "www-data", "root"])
def test_other_accounts_cannot_be_the_app(machine: Machine, database: str, stranger: str) -> None:
    why = machine.denied(stranger, "psql -XAtqc %s -U %s -d %s", "SELECT 1", database, database)
    assert "Peer authentication failed" in why, f"{stranger} logs in as {database}: {why}"


def test_app_gets_no_other_database(machine: Machine, account: str, postgres: dict[str, Any]) -> None:
    for other in set(postgres["databases"]) - {account, "template0"}:
        why = machine.denied(account, "psql -XAtqc %s -d %s", "SELECT 1", other)
        assert "no pg_hba.conf entry" in why, f"{account} connects to {other}: {why}"


def test_app_cannot_be_another(machine: Machine, account: str, postgres: dict[str, Any]) -> None:
    for other in {role for role in postgres["roles"] if not role.startswith("pg_")} - {account}:
        why = machine.denied(account, "psql -XAtqc %s -U %s -d %s", "SELECT 1", other, other)
        assert "Peer authentication failed" in why, f"{account} logs in as {other}: {why}"


def test_data_are_closed(machine: Machine, database: str) -> None:
    folder = machine.check("cd / && runuser -u postgres -- psql -XAtqc %s", "SHOW data_directory")
    for user in ("nobody", "www-data"):
        assert not machine.open_to(user, folder), user


@pytest.mark.lab
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE ROLE intruder",
        "CREATE DATABASE intruder",
        "ALTER SYSTEM SET work_mem = '1GB'",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY (SELECT 1) TO '/tmp/zarpar-verify'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT * FROM pg_authid",
        "SET ROLE postgres",
    ],
)
def test_refused_statements(machine: Machine, account: str, statement: str) -> None:
    why = machine.denied(account, "psql -XAtq -v ON_ERROR_STOP=1 -c %s", statement)
    assert any(words in why for words in ("permission denied", "must be")), why


OVERVIEW = """
SELECT json_build_object(
  'settings', (SELECT json_object_agg(name, setting) FROM pg_settings WHERE name IN
               ('data_checksums', 'max_connections', 'password_encryption', 'listen_addresses')),
  'waiting', (SELECT coalesce(json_agg(name), '[]') FROM pg_settings WHERE pending_restart),
  'faults', (SELECT coalesce(json_agg(error), '[]') FROM
             (SELECT error FROM pg_file_settings WHERE error IS NOT NULL
              UNION ALL SELECT error FROM pg_hba_file_rules WHERE error IS NOT NULL) AS found),
  'rules', (SELECT json_agg(json_build_object('type', type, 'auth_method', auth_method)) FROM pg_hba_file_rules),
  'roles', (SELECT json_object_agg(rolname, json_build_object('rolcanlogin', rolcanlogin, 'rolsuper', rolsuper,
            'rolcreaterole', rolcreaterole, 'rolcreatedb', rolcreatedb, 'rolreplication', rolreplication,
            'rolbypassrls', rolbypassrls)) FROM pg_roles),
  'databases', (SELECT json_object_agg(datname, json_build_array(pg_get_userbyid(datdba),
                pg_encoding_to_char(encoding), has_database_privilege('public', oid, 'CONNECT'))) FROM pg_database))
"""

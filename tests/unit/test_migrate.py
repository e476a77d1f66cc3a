"""When a migration command need not be run."""

from __future__ import annotations

import pytest

from zarpar_host.migrate import is_applied

UPGRADES = [
    "flask db upgrade",
    "flask --app wsgi db upgrade",
    "flask -A shop.web:create_app db upgrade head",
    "python -m flask --app=wsgi db upgrade",
    "alembic upgrade head",
    "alembic -c deploy/alembic.ini upgrade heads",
]
OTHERS = [
    "flask db upgrade && flask seed",
    "flask db upgrade 0007",
    "flask --app wsgi db upgrade +1",
    "flask db downgrade",
    "python manage.py migrate",
    "./migrate.sh",
    "alembic upgrade head --sql",
    "",
]


@pytest.mark.parametrize("command", UPGRADES)
def test_alembics_upgrade_is_left_out_at_the_newest_migrations(command: str) -> None:
    assert is_applied(command, ["0007"], ["0007"])
    assert is_applied(command, ["b", "a"], ["a", "b"])


@pytest.mark.parametrize("command", UPGRADES)
@pytest.mark.parametrize(("tips", "heads"), [(["0007"], ["0006"]), (["0007"], []), ([], []), (["a", "b"], ["a"])])
def test_it_runs_when_something_is_new_or_unknown(command: str, tips: list[str], heads: list[str]) -> None:
    assert not is_applied(command, tips, heads)


@pytest.mark.parametrize("command", OTHERS)
def test_any_other_command_runs(command: str) -> None:
    assert not is_applied(command, ["0007"], ["0007"])

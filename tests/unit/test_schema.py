"""What a tree's migrations are, and how a database's address becomes libpq's environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zarpar_host import schema
from zarpar_host.errors import HostError
from zarpar_host.state import Places


def write(tree: Path, name: str, text: str) -> None:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_alembic_files_are_read_not_run(tmp_path: Path) -> None:
    write(tmp_path, "migrations/versions/0001_a.py", "revision = '0001'\ndown_revision = None\n")
    write(tmp_path, "migrations/versions/0002_b.py", "revision: str = '0002'\ndown_revision: str = '0001'\n")
    write(tmp_path, "migrations/versions/0003_c.py", "revision = '0003'\ndown_revision = ('0001', '0002')\n")
    write(tmp_path, "migrations/versions/broken.py", "revision = (\n")
    write(tmp_path, "migrations/versions/evil.py", "raise SystemExit\nrevision = open('/etc/passwd').read()\n")
    write(tmp_path, "node_modules/versions/x.py", "revision = 'no'\n")
    assert schema.known(tmp_path) == {"revisions": ["0001", "0002", "0003"], "tips": ["0003"]}


def test_django_migrations(tmp_path: Path) -> None:
    write(tmp_path, "shop/migrations/0001_initial.py", "")
    write(tmp_path, "shop/migrations/__init__.py", "")
    write(tmp_path, "shop/migrations/0002_more.py", "")
    assert schema.known(tmp_path)["revisions"] == ["shop.0001_initial", "shop.0002_more"]


def test_connection_keeps_the_password_out_of_arguments() -> None:
    remote = schema.connection("postgresql://shop:p%40ss@10.0.0.5:5432/shop?sslmode=require")
    assert remote["PGPASSWORD"] == "p@ss"
    assert (remote["PGHOST"], remote["PGPORT"], remote["PGUSER"], remote["PGDATABASE"], remote["PGSSLMODE"]) == (
        "10.0.0.5",
        "5432",
        "shop",
        "shop",
        "require",
    )
    local = schema.connection("postgresql://shop@/shop?host=/run/postgresql")
    assert local["PGHOST"] == "/run/postgresql"
    assert "PGPASSWORD" not in local


@pytest.mark.parametrize(
    ("revisions", "present", "refused"),
    [
        (["0001"], ["0001"], False),
        (["0001"], ["0002"], True),
        (["0001", "0002"], ["0002"], False),
        ([], ["0002"], False),
        (["shop.0001"], ["auth.0009", "shop.0001"], False),
        (["shop.0001"], ["auth.0009", "shop.0002"], True),
    ],
)
def test_release_that_does_not_know_the_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revisions: list[str], present: list[str], refused: bool
) -> None:
    places = Places("shop", tmp_path)
    places.release("old").mkdir(parents=True)
    places.environment("old").parent.mkdir(parents=True)
    places.environment("old").write_text('DATABASE_URL="postgresql://shop@/shop"\n')
    settings = {"app": {}, "schema": {"revisions": revisions, "tips": []}}
    (places.release("old") / "release.json").write_text(json.dumps(settings))
    monkeypatch.setattr(schema, "heads", lambda _places, _url: present)
    if refused:
        with pytest.raises(HostError, match="does not know the database's schema") as caught:
            schema.require_known(places, "old")
        assert caught.value.kind == "schema"
    else:
        schema.require_known(places, "old")

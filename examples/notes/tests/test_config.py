# ruff: noqa: S101 - tests assert
import logging
import os
import sys
from pathlib import Path

import pytest

from notes import create_app
from notes.config import ConfigError, DevelopmentConfig, ProductionConfig, database_url, from_environment
from notes.logs import JournalFormatter, stderr_is_journal

PRODUCTION = {
    "SECRET_KEY": "a secret",
    "DATABASE_URL": "postgresql://notes@/notes?host=/run/postgresql",
    "UPLOADS_DIR": "/srv/notes/shared/uploads",
}


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("FLASK_DEBUG", "TRUSTED_PROXIES", "SESSION_COOKIE_SECURE", "ZARPAR_RELEASE_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize("name", PRODUCTION)
@pytest.mark.parametrize("value", ["", " ", None])
def test_production_names_what_is_missing(production: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    if value is None:
        production.delenv(name)
    else:
        production.setenv(name, value)
    with pytest.raises(ConfigError, match=name):
        create_app()


def test_production_is_strict(production: pytest.MonkeyPatch) -> None:
    production.setenv("ZARPAR_RELEASE_ID", "0123abcd-ef4567")
    app = create_app()
    assert not app.debug
    assert app.config["SESSION_COOKIE_SECURE"] is True
    assert app.config["RELEASE_ID"] == "0123abcd-ef4567"


def test_a_site_without_tls_can_have_plain_cookies(production: pytest.MonkeyPatch) -> None:
    production.setenv("SESSION_COOKIE_SECURE", "0")
    assert ProductionConfig().SESSION_COOKIE_SECURE is False


def test_a_bad_number_is_named(production: pytest.MonkeyPatch) -> None:
    production.setenv("TRUSTED_PROXIES", "yes")
    with pytest.raises(ConfigError, match="TRUSTED_PROXIES"):
        ProductionConfig()


def test_development_needs_nothing(production: pytest.MonkeyPatch) -> None:
    for name in PRODUCTION:
        production.delenv(name)
    production.setenv("FLASK_DEBUG", "1")
    assert isinstance(from_environment(), DevelopmentConfig)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("postgresql:///notes", "postgresql+psycopg:///notes"),
        ("postgres://u:p%40ss@db.example.com/n", "postgresql+psycopg://u:p%40ss@db.example.com/n"),
        (
            "postgresql://notes@/notes?host=/run/postgresql",
            "postgresql+psycopg://notes@/notes?host=%2Frun%2Fpostgresql",
        ),
        ("postgresql+psycopg://db/n", "postgresql+psycopg://db/n"),
        ("sqlite:///notes.db", "sqlite:///notes.db"),
    ],
)
def test_database_urls_get_the_driver(raw: str, expected: str) -> None:
    assert database_url(raw).render_as_string(hide_password=False) == expected


def test_a_bad_database_url_is_named_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="DATABASE_URL") as caught:
        database_url("s3cret")
    assert "s3cret" not in str(caught.value)


def test_journal_lines_carry_their_priority() -> None:
    record = logging.LogRecord("notes", logging.ERROR, __file__, 1, "two\nlines", None, None)
    assert JournalFormatter().format(record) == "<3>notes: two\n<3>lines"


def test_the_journal_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert stderr_is_journal()
        monkeypatch.setenv("JOURNAL_STREAM", "8:1")
        assert not stderr_is_journal()

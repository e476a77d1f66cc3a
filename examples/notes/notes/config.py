"""Configuration from environment variables, so that one source tree runs everywhere."""

import os
from pathlib import Path

from flask.helpers import get_debug_flag
from sqlalchemy import URL, make_url

ROOT = Path(__file__).resolve().parents[1]


class ConfigError(RuntimeError):
    """A setting is missing or unusable; the message names it."""


class Config:
    """What all environments share."""

    MAX_CONTENT_LENGTH = 8 * 1024 * 1024
    PICTURE_TYPES = ("png", "jpg", "jpeg", "gif", "webp")
    NOTES_ON_PAGE = 50
    SESSION_COOKIE_SAMESITE = "Lax"

    SECRET_KEY: str
    SQLALCHEMY_DATABASE_URI: URL
    UPLOAD_FOLDER: Path

    def __init__(self) -> None:
        self.RELEASE_ID = os.environ.get("ZARPAR_RELEASE_ID", "unreleased")
        self.TRUSTED_PROXIES = number("TRUSTED_PROXIES", default=0)

    @property
    def SQLALCHEMY_ENGINE_OPTIONS(self) -> dict[str, object]:
        """Check connections before use: a restart of the database then costs no failed page."""
        options: dict[str, object] = {"pool_pre_ping": True}
        if self.SQLALCHEMY_DATABASE_URI.get_backend_name() == "postgresql":
            options["connect_args"] = {"connect_timeout": 5, "options": "-c timezone=utc"}
        return options


class ProductionConfig(Config):
    """No defaults for what must be right: the app does not start without it."""

    def __init__(self) -> None:
        super().__init__()
        self.SECRET_KEY = required("SECRET_KEY")
        self.SQLALCHEMY_DATABASE_URI = database_url(required("DATABASE_URL"))
        self.UPLOAD_FOLDER = Path(required("UPLOADS_DIR")).absolute()
        # Only a site without TLS needs "0".
        self.SESSION_COOKIE_SECURE = number("SESSION_COOKIE_SECURE", default=1) != 0


class DevelopmentConfig(Config):
    """Everything in `instance/` (also where Flask-SQLAlchemy puts SQLite files); Git ignores it."""

    def __init__(self) -> None:
        super().__init__()
        self.SECRET_KEY = "only-for-development"  # noqa: S105 - never used in production
        self.SQLALCHEMY_DATABASE_URI = database_url(os.environ.get("DATABASE_URL") or "sqlite:///notes.db")
        self.UPLOAD_FOLDER = Path(os.environ.get("UPLOADS_DIR") or ROOT / "instance/uploads").absolute()


def from_environment() -> Config:
    """Choose production unless Flask runs with `--debug` (or FLASK_DEBUG=1)."""
    return DevelopmentConfig() if get_debug_flag() else ProductionConfig()


def required(name: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise ConfigError(f"The environment variable {name} is not set. Production needs it.")
    return value


def number(name: str, default: int) -> int:
    raw = os.environ.get(name) or str(default)
    if not (raw.isascii() and raw.isdigit()):
        raise ConfigError(f"The environment variable {name} must be a number, not {raw!r}.")
    return int(raw)


def database_url(raw: str) -> URL:
    """Parse a database URL; a PostgreSQL one gets the psycopg 3 driver."""
    scheme, separator, rest = raw.partition("://")
    if not separator:
        raise ConfigError("The environment variable DATABASE_URL is no URL (example: postgresql:///notes).")
    if scheme in {"postgres", "postgresql"}:
        scheme = "postgresql+psycopg"
    return make_url(f"{scheme}://{rest}")

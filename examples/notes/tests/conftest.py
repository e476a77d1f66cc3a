"""An app on a temporary SQLite file, made by the migrations that production runs too."""

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from sqlalchemy import make_url

from notes import create_app
from notes.config import Config


class FormsWithoutToken(Config):
    TESTING = True
    WTF_CSRF_ENABLED = False
    SECRET_KEY = "only-for-tests"  # noqa: S105 - protects nothing

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.SQLALCHEMY_DATABASE_URI = make_url(f"sqlite:///{folder / 'notes.db'}")
        self.UPLOAD_FOLDER = folder / "uploads"


class FormsWithToken(FormsWithoutToken):
    WTF_CSRF_ENABLED = True


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    app = create_app(FormsWithoutToken(tmp_path))
    with app.app_context():
        upgrade()
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def protected_client(app: Flask) -> FlaskClient:
    """A client of the same database, with the CSRF protection of production."""
    return create_app(FormsWithToken(app.config["UPLOAD_FOLDER"].parent)).test_client()

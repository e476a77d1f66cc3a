# ruff: noqa: S101 - tests assert
import io
import logging
import re
import stat
from pathlib import Path

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from flask_migrate import check, downgrade
from werkzeug.test import TestResponse

from notes import trust_proxies
from notes.models import db

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
JPEG = b"\xff\xd8\xff\xe0" + bytes(64)
WEBP = b"RIFF\x24\x00\x00\x00WEBPVP8 " + bytes(64)


def post(client: FlaskClient, text: str = "Hello", picture: tuple[bytes, str] | None = None) -> TestResponse:
    data: dict[str, object] = {"text": text}
    if picture:
        data["picture"] = (io.BytesIO(picture[0]), picture[1])
    return client.post("/", data=data)


def uploads(app: Flask) -> list[Path]:
    folder: Path = app.config["UPLOAD_FOLDER"]
    return list(folder.iterdir()) if folder.is_dir() else []


def test_a_posted_note_is_listed_and_escaped(client: FlaskClient) -> None:
    assert "No notes yet" in client.get("/").text
    response = post(client, "  <b>first</b>\0 ")
    assert (response.status_code, response.location) == (303, "/")
    assert "<p>&lt;b&gt;first&lt;/b&gt;</p>" in client.get("/").text


@pytest.mark.parametrize("text", ["", "  ", "\0", "x" * 2001])
def test_a_note_needs_a_text_of_sensible_length(client: FlaskClient, text: str) -> None:
    response = post(client, text)
    assert response.status_code == 422
    assert 'class="error"' in response.text


@pytest.mark.parametrize(
    ("content", "name", "extension"),
    [
        (PNG, "../../etc/cron.d/x.png", "png"),
        (JPEG, "Foto 1.JPG", "jpg"),
        (JPEG, "really-a-jpeg.png", "jpg"),
        (WEBP, "ñandú.webp", "webp"),
        (b"GIF89a" + bytes(9), "a.gif", "gif"),
    ],
)
def test_a_picture_gets_a_name_of_our_own(
    app: Flask, client: FlaskClient, content: bytes, name: str, extension: str
) -> None:
    assert post(client, picture=(content, name)).status_code == 303
    (stored,) = uploads(app)
    assert re.fullmatch(rf"[0-9a-f]{{32}}\.{extension}", stored.name)
    assert stat.S_IMODE(stored.stat().st_mode) == 0o640
    assert f"/uploads/{stored.name}" in client.get("/").text
    assert client.get(f"/uploads/{stored.name}").data == content


@pytest.mark.parametrize(
    ("content", "name"),
    [(b"<script>", "x.png"), (PNG, "x.svg"), (PNG, "x.html"), (PNG, "noextension"), (b"", "x.png")],
)
def test_other_files_are_refused(app: Flask, client: FlaskClient, content: bytes, name: str) -> None:
    response = post(client, picture=(content, name))
    assert response.status_code == 422
    assert "not a PNG" in response.text
    assert uploads(app) == []


def test_a_too_large_upload_is_refused(app: Flask, client: FlaskClient) -> None:
    response = post(client, picture=(PNG + bytes(app.config["MAX_CONTENT_LENGTH"]), "big.png"))
    assert response.status_code == 413
    assert "Back to the notes" in response.text
    assert uploads(app) == []


def test_no_picture_is_left_behind_when_the_note_cannot_be_stored(app: Flask, client: FlaskClient) -> None:
    app.testing = False
    with app.app_context():
        db.drop_all()
    assert post(client, picture=(PNG, "a.png")).status_code == 500
    assert uploads(app) == []


def test_a_form_without_its_token_is_refused(protected_client: FlaskClient) -> None:
    assert post(protected_client).status_code == 400
    page = protected_client.get("/").text
    token = re.search(r'name="csrf_token" type="hidden" value="([^"]+)"', page)
    assert token
    answer = protected_client.post("/", data={"text": "with token", "csrf_token": token[1]})
    assert answer.status_code == 303


def test_health_names_the_release(client: FlaskClient) -> None:
    response = client.get("/health")
    assert response.status_code == 200
    assert response.json == {"status": "ok", "database": "ok", "release": "unreleased"}
    assert response.headers["Cache-Control"] == "no-store"


def test_health_fails_without_telling_why(
    app: Flask, client: FlaskClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with app.app_context():
        db.engine.dispose()
    (tmp_path / "notes.db").unlink()
    (tmp_path / "notes.db").mkdir()
    with caplog.at_level(logging.ERROR):
        response = client.get("/health")
    assert response.status_code == 503
    assert response.json == {"status": "failed", "database": "failed", "release": "unreleased"}
    assert "unable to open database file" in caplog.text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("PUT", "/", 405)])
def test_errors_have_a_page(client: FlaskClient, method: str, path: str, status: int) -> None:
    response = client.open(path, method=method)
    assert response.status_code == status
    assert response.content_type == "text/html; charset=utf-8"
    assert "Back to the notes" in response.text
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert ("Allow" in response.headers) == (status == 405)


def test_static_files_are_addressed_by_release(client: FlaskClient) -> None:
    page = client.get("/").text
    for name in ("notes.css", "logo.svg"):
        assert f"/static/{name}?v=unreleased" in page
        assert client.get(f"/static/{name}").status_code == 200


def test_forwarded_headers_count_only_behind_a_proxy(app: Flask) -> None:
    @app.get("/seen")
    def seen() -> str:
        return f"{request.scheme} {request.remote_addr}"

    headers = {"X-Forwarded-For": "192.0.2.1, 192.0.2.7", "X-Forwarded-Proto": "https"}
    assert app.test_client().get("/seen", headers=headers).text == "http 127.0.0.1"
    trust_proxies(app, 1)
    assert app.test_client().get("/seen", headers=headers).text == "https 192.0.2.7"


def test_notes_in_a_terminal(app: Flask) -> None:
    runner = app.test_cli_runner()
    assert runner.invoke(args=["notes", "add", "from a terminal"]).exit_code == 0
    assert "from a terminal" in runner.invoke(args=["notes", "list"]).output


def test_the_migrations_match_the_models_and_can_go_back(app: Flask) -> None:
    with app.app_context():
        check()
        downgrade(revision="base")

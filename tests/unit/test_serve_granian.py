"""What granian is told of an app's settings. That it serves by them: tests/e2e/test_granian.py."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from zarpar.config import App
from zarpar_host import serve_granian


def plain(**keys: Any) -> dict[str, Any]:
    app = App.model_validate({"domains": ["a.example.com"], "source": {"path": "x"}, "server": "granian", **keys})
    return app.for_host("shop", "")


def test_the_app_s_settings_count() -> None:
    wanted = {"workers": 3, "threads": 4, "graceful_timeout": 7, "log_level": "warning", "access_log": False}
    told = serve_granian.settings(plain(gunicorn=wanted))
    assert {name: told[name] for name in wanted} == wanted
    assert told["folder"] == ""
    assert serve_granian.settings(plain(logs="file"))["folder"] == "/var/log/zarpar/shop"
    assert serve_granian.settings(plain())["workers"] == 0


@pytest.mark.parametrize(
    ("fields", "size", "least", "most"),
    [(100, 8190, 100 * 8190, 2**20), (1, 100, 8192, 9000), (32768, 0, 2**20, 2**21)],
)
def test_room_for_header_fields(fields: int, size: int, least: int, most: int) -> None:
    """granian refuses a buffer of less than 8192 bytes."""
    limits = {"limit_request_fields": fields, "limit_request_field_size": size}
    assert least <= serve_granian.settings(plain(gunicorn=limits))["buffer"] <= most


def test_logs_go_to_files_that_can_be_moved_away(tmp_path: Path) -> None:
    assert serve_granian.logging_to("") == {}
    handlers = serve_granian.logging_to(str(tmp_path))["handlers"]
    assert {each["filename"] for each in handlers.values()} == {f"{tmp_path}/error.log", f"{tmp_path}/access.log"}
    assert {each["class"] for each in handlers.values()} == {"logging.handlers.WatchedFileHandler"}


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        serve_granian.ready()
        assert systemd.recv(100) == b"READY=1"
    serve_granian.ready()  # started by hand: there is nobody to tell

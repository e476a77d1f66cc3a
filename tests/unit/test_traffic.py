"""Counting what visitors got, from nginx's log."""

from __future__ import annotations

from pathlib import Path

import pytest

from zarpar_host import traffic

ROW = (
    '10.0.0.1 - {user} [21/Nov/2026:04:39:31 +0000] "{request}" {status} 12 "{referer}" "curl" "{host}" '
    '0.1 "unix:/x" "0.1"\n'
)


def row(
    status: int, host: str = "a.example.com", request: str = "GET / HTTP/1.1", user: str = "-", referer: str = "-"
) -> str:
    return ROW.format(status=status, host=host, request=request, user=user, referer=referer)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "access.log"
    monkeypatch.setattr(traffic, "LOG", path)
    return path


def count(mark: str) -> tuple[int, int]:
    seen = traffic.traffic({"domains": ["a.example.com", "www.a.example.com"], "mark": mark})
    return seen["requests"], seen["errors"]


def test_counts_only_this_app_since_the_mark(log: Path) -> None:
    log.write_text(row(500) * 3)
    mark = traffic.traffic({"domains": ["a.example.com"]})["mark"]
    with log.open("a") as handle:
        handle.write(row(200) + row(502) + row(503, "www.a.example.com") + row(500, "b.example.com") + row(404))
        handle.write(row(500, request="GET /\\x22 500 1 \\x22 HTTP/1.1", user="a b", referer="x] 200"))
        handle.write("garbage\n")
    assert count(mark) == (5, 3)


def test_rotated_and_missing_log(log: Path) -> None:
    assert traffic.traffic({"domains": []}) == {"mark": "0:0", "requests": 0, "errors": 0, "changed": False}
    log.write_text(row(200))
    assert count("1:999999") == (1, 0)

"""Which Python an app asks for and which one a host gives it."""

from __future__ import annotations

import pytest

from zarpar import pythons
from zarpar.errors import BadData

DEBIAN_12 = {"python": "3.11", "python_full": "3.11.2"}
DEBIAN_13 = {"python": "3.13", "python_full": "3.13.5"}
REQUIRES = '[project]\nrequires-python = "{}"\n'
POETRY = '[tool.poetry.dependencies]\npython = "{}"\n'


@pytest.mark.parametrize(
    ("named", "files", "expected"),
    [
        ("3.12.4", {".python-version": "3.11"}, ("3.12.4", "")),
        ("", {".python-version": "3.12\n", "runtime.txt": "python-3.11"}, ("3.12", "")),
        ("", {".python-version": "# ours\n\ncpython-3.12\n3.11\n"}, ("3.12", "")),
        ("", {"runtime.txt": "python-3.11", "Pipfile": '[requires]\npython_version = "3.9"'}, ("3.11", "")),
        ("", {"Pipfile": '[requires]\npython_version = "3.12"'}, ("3.12", "")),
        ("", {"pyproject.toml": REQUIRES.format(">=3.12")}, ("", ">=3.12")),
        ("", {"pyproject.toml": POETRY.format("^3.12")}, ("", "^3.12")),
        ("", {"pyproject.toml": "[broken"}, ("", "")),
        ("", {"pyproject.toml": "project = 3\ntool = 4", "Pipfile": "requires = 3"}, ("", "")),
        ("", {}, ("", "")),
    ],
)
def test_wish(named: str, files: dict[str, str], expected: tuple[str, str]) -> None:
    found = pythons.wish(named, files)
    assert (found.version, found.requires, found.note) == (*expected, "")


@pytest.mark.parametrize(
    ("files", "version", "said"),
    [
        ({"runtime.txt": "python-3.12.4"}, "3.12", "runtime.txt asks for Python 3.12.4: 3.12 with its newest patch"),
        ({".python-version": "shop-venv"}, "", "'shop-venv' names no Python"),
        ({".python-version": "pypy3.10-7.3"}, "", "names no Python"),
        ({"pyproject.toml": REQUIRES.format("three")}, "", "'three' is not understood"),
        ({"pyproject.toml": REQUIRES.format(">=4, <<3")}, "", "is not understood"),
        ({"pyproject.toml": REQUIRES.format(">=4, >x")}, "", "is not understood"),
        ({"runtime.txt": "\x1b[31mpython"}, "", "'\\x1b[31mpython' names no Python"),
    ],
)
def test_what_is_not_followed_exactly_is_told(files: dict[str, str], version: str, said: str) -> None:
    found = pythons.wish("", files)
    assert (found.version, found.requires) == (version, "")
    assert said in found.note


@pytest.mark.parametrize(
    ("version", "requires", "on_12", "on_13"),
    [
        ("", "", "", ""),
        ("3.13", "", "3.13", ""),
        ("3.11", "", "", "3.11"),
        ("3.13.5", "", "3.13.5", ""),
        ("3.12.4", "", "3.12.4", "3.12.4"),
        ("", ">=3.9", "", ""),
        ("", ">=3.12", "3.14", ""),
        ("", ">=3.12,<3.13", "3.12", "3.12"),
        ("", "^3.12", "3.14", ""),
        ("", "~3.12", "3.12", "3.12"),
        ("", "==3.10.*", "3.10", "3.10"),
        ("", ">=3.11.4", "3.14", ""),
    ],
)
def test_for_host(version: str, requires: str, on_12: str, on_13: str) -> None:
    assert pythons.for_host("shop", version, requires, DEBIAN_12) == on_12
    assert pythons.for_host("shop", version, requires, DEBIAN_13) == on_13


def test_a_python_that_nobody_has() -> None:
    with pytest.raises(BadData, match=r"apps\.shop: no known Python is '<3'"):
        pythons.for_host("shop", "", "<3", DEBIAN_13)


def test_the_release_decides_where_there_is_one() -> None:
    apps = [{"name": "shop", "python": ""}, {"name": "blog", "python": "3.12"}, {"name": "wiki", "python": "3.11"}]
    plan = {"shop": {"python": "3.13", "requires": ""}, "blog": {"python": "3.12", "requires": ""}}
    assert [app["python"] for app in pythons.settled(apps, plan, DEBIAN_12)] == ["3.13", "3.12", ""]
    assert [app["python"] for app in pythons.settled(apps, {}, DEBIAN_13)] == ["", "3.12", "3.11"]
    assert apps[2]["python"] == "3.11"

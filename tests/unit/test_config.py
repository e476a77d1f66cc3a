"""The apps model: what is refused, by which name; what templates get."""

from __future__ import annotations

import copy
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarpar import config
from zarpar.errors import BadData

GOOD: dict[str, Any] = {
    "domains": ["shop.example.com", "www.shop.example.com"],
    "source": {"repo": "git@example.com:me/shop.git", "ref": "main"},
    "wsgi": "wsgi:app",
    "python": "3.12",
    "database": "postgres",
    "migrate": "flask db upgrade",
    "build": ["flask translate compile"],
    "health": {"path": "/health"},
    "static": {"/static/": "app/static"},
    "uploads": {"/uploads/": "uploads"},
    "env": {"MAIL_SERVER": "smtp.example.com", "PORT": 25},
    "gunicorn": {"workers": "auto", "threads": 2, "timeout": 120, "max_requests": 1000},
    "client_max_body_size": "16M",
}


GOOD["processes"] = {"worker": {"command": "celery worker"}}
GOOD["schedules"] = {"cleanup": {"command": "flask cleanup", "at": "daily"}}


def with_value(path: str, value: object) -> dict[str, Any]:
    app = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    place: Any = app
    for part in parents:
        place = place[part]
    place[last] = value
    return {"shop": app}


def test_example_of_the_design_is_accepted() -> None:
    plain = config.load_apps({"shop": GOOD})["shop"].for_host("shop", "postgresql://shop@/shop")
    assert plain["canonical"] == "shop.example.com"
    assert plain["upstream"] == "zarpar_shop"
    assert plain["gunicorn"]["workers"] == 0
    assert plain["health"] == {
        "path": "/health",
        "status": 200,
        "host": "shop.example.com",
        "body": "",
        "timeout": 60,
        "passes": 2,
    }
    assert plain["env"] == {"MAIL_SERVER": "smtp.example.com", "PORT": "25"}
    assert plain["static"] == [{"url": "/static/", "path": "app/static"}]


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("domain", "x", "apps.shop.domain"),
        ("domains", "shop.example.com", "apps.shop.domains"),
        ("domains", [], "apps.shop.domains"),
        ("domains", ["Shop.example.com"], "apps.shop.domains[0]"),
        ("domains", ["shop"], "apps.shop.domains[0]"),
        ("domains", ["a.example.com\n"], "apps.shop.domains[0]"),
        ("domains", ["a.example.com", "a.example.com"], "apps.shop"),
        ("domains", ["-a.example.com"], "apps.shop.domains[0]"),
        ("domains", ["{{ x }}.example.com"], "apps.shop.domains[0]"),
        ("domains", ["a.example.com;"], "apps.shop.domains[0]"),
        ("domains", ['a".example.com'], "apps.shop.domains[0]"),
        ("domains", ["../a.example.com"], "apps.shop.domains[0]"),
        ("source", {}, "apps.shop.source"),
        ("source", {"repo": "a:b.git", "path": "."}, "apps.shop.source"),
        ("source", {"repo": "--upload-pack=x"}, "apps.shop.source.repo"),
        ("source", {"repo": "ext::sh"}, "apps.shop.source"),
        ("source.ref", "-x", "apps.shop.source.ref"),
        ("source.ref", "main..dev", "apps.shop.source"),
        ("python", 3.12, "apps.shop.python"),
        ("python", "2.7", "apps.shop.python"),
        ("database", "mysql", "apps.shop.database"),
        ("migrate", "a\nb", "apps.shop.migrate"),
        ("build", "make", "apps.shop.build"),
        ("health.path", "health", "apps.shop.health.path"),
        ("health.path", "/a b", "apps.shop.health.path"),
        ("health.timeout", 0, "apps.shop.health.timeout"),
        ("health.timeout", "60", "apps.shop.health.timeout"),
        ("static", {"static": "x"}, "apps.shop.static"),
        ("static", {"/a/../b/": "x"}, "apps.shop"),
        ("static", {"/static/": "../x"}, "apps.shop.static"),
        ("static", {"/static/": "/etc"}, "apps.shop.static"),
        ("uploads", {"/static/": "x"}, "apps.shop"),
        ("uploads", {"/.well-known/": "x"}, "apps.shop.uploads"),
        ("env", {"A B": "x"}, "apps.shop"),
        ("env", {"A": "x\x00y"}, "apps.shop"),
        ("env", {"A": True}, "apps.shop.env.A"),
        ("env", {"LD_PRELOAD": "x"}, "apps.shop"),
        ("env", {"ZARPAR_RELEASE": "x"}, "apps.shop"),
        ("gunicorn.workers", "5", "apps.shop.gunicorn.workers"),
        ("gunicorn.worker_class", "eventlet", "apps.shop.gunicorn.worker_class"),
        ("server", "uwsgi", "apps.shop.server"),
        ("gunicorn.worker", 5, "apps.shop.gunicorn.worker"),
        ("client_max_body_size", "16 M; evil", "apps.shop.client_max_body_size"),
        ("wsgi", "wsgi:app --reload", "apps.shop.wsgi"),
        ("tls", False, "apps.shop.tls"),
        ("processes", ["worker"], "apps.shop.processes"),
        ("processes", {"worker": -1}, "apps.shop.processes.worker.count"),
        ("processes", {"worker": 65}, "apps.shop.processes.worker.count"),
        ("processes", {"worker": True}, "apps.shop.processes.worker"),
        ("processes", {"worker": "2"}, "apps.shop.processes.worker"),
        ("processes", {"worker": {"counts": 2}}, "apps.shop.processes.worker.counts"),
        ("processes", {"worker": {"stop": 0}}, "apps.shop.processes.worker.stop"),
        ("processes", {"worker": {"command": "a\nb"}}, "apps.shop.processes.worker.command"),
        ("processes", {"a b": 1}, "apps.shop.processes"),
        ("processes", {"a.b": 1}, "apps.shop.processes"),
        ("processes", {"../x": 1}, "apps.shop.processes"),
        ("processes", {"web": 2}, "apps.shop"),
        ("processes", {"release": {"command": "x"}}, "apps.shop"),
        ("schedules", {"a": "daily"}, "apps.shop.schedules.a"),
        ("schedules", {"a": {"command": "x"}}, "apps.shop.schedules.a.at"),
        ("schedules", {"a": {"at": "daily"}}, "apps.shop.schedules.a.command"),
        ("schedules", {"a": {"at": "daily", "command": ""}}, "apps.shop.schedules.a.command"),
        ("schedules", {"a": {"at": "dayly", "command": "x"}}, "apps.shop.schedules.a.at"),
        ("schedules", {"a": {"at": "0 3 * * *", "command": "x"}}, "apps.shop.schedules.a.at"),
        ("schedules", {"a": {"at": "daily\n", "command": "x"}}, "apps.shop.schedules.a.at"),
        ("schedules", {"a": {"at": "%i", "command": "x"}}, "apps.shop.schedules.a.at"),
        ("schedules", {"a": {"at": "--help", "command": "x"}}, "apps.shop.schedules.a.at"),
        ("schedules", {"a/b": {"at": "daily", "command": "x"}}, "apps.shop.schedules"),
    ],
)
def test_wrong_value_is_refused_by_name(path: str, value: object, named: str) -> None:
    with pytest.raises(BadData) as caught:
        config.load_apps(with_value(path, value))
    assert caught.value.summary.startswith(named), caught.value.summary


CALENDAR = """
minutely hourly daily weekly monthly quarterly semiannually annually Mon 04:00 *:0/15 *:2/3 2026-11-21 05:40:23
*-*-1..7 03-05 *-*~01 daily|UTC monthly|Europe/Berlin Mon..Fri|04:00 Mon,Sun|2026-*-*|2,1:23 Sat,Sun|08:05:40
Wed..Sat,Tue|26-10-15|1:2:3 Sun|*-*-*|03:30|America/New_York mon,fri|*-1/2-1,3|*:30:45
""".split()  # noqa: SIM905 - easier to read


@pytest.mark.parametrize("at", [each.replace("|", " ") for each in CALENDAR])
def test_times_of_schedules(at: str) -> None:
    """What is accepted is what systemd accepts: see its own judgement, where it is installed."""
    raw = with_value("schedules", {"a": {"at": at, "command": "x"}})
    assert config.load_apps(raw)["shop"].schedules["a"].at == at
    if shutil.which("systemd-analyze"):
        subprocess.run(["systemd-analyze", "calendar", "--", at], check=True, capture_output=True)


def test_a_number_scales_a_process() -> None:
    app = config.load_apps(with_value("processes", {"worker": 2, "mailer": {"command": "x", "stop": 600}}))["shop"]
    assert app.processes["worker"] == config.Process(count=2, stop=300)
    assert app.for_host("shop", "")["longest_stop"] == 600
    assert config.load_apps({"shop": GOOD})["shop"].for_host("shop", "")["longest_stop"] == 300


@pytest.mark.parametrize(
    "name", ["", "Shop", "1shop", "-shop", "a b", "a/b", "../x", "{{ x }}", "a\n", 'a"', "root", 5]
)
def test_wrong_app_name_is_refused(name: object) -> None:
    with pytest.raises(BadData, match="apps"):
        config.load_apps({name: GOOD})


def test_domain_of_two_apps_is_refused() -> None:
    with pytest.raises(BadData, match=r"apps\.two\.domains: shop\.example\.com is a domain of apps\.one"):
        config.load_apps({"one": GOOD, "two": GOOD})


@pytest.mark.parametrize("raw", [None, {}, [], "shop", {"shop": None}, {"shop": []}])
def test_no_app(raw: object) -> None:
    with pytest.raises(BadData, match="apps"):
        config.load_apps(raw)


def test_secret_is_not_in_the_message() -> None:
    for path, value in [
        ("env", {"KEY": ["CANARY"]}),
        ("env", {"KEY": "CANARY\x00"}),
        ("database_password", ["CANARY"]),
    ]:
        with pytest.raises(BadData) as caught:
            config.load_apps(with_value(path, value))
        assert "CANARY" not in f"{caught.value.summary} {caught.value.detail} {caught.value.hint}"


def test_a_value_that_was_referred_to_is_not_in_the_message() -> None:
    for path, value in [("domains", [config.Referred("CANARY")]), ("migrate", config.Referred("CANARY\n"))]:
        with pytest.raises(BadData) as caught:
            config.load_apps(with_value(path, value))
        assert f"apps.shop.{path}" in caught.value.summary
        assert "CANARY" not in f"{caught.value.summary} {caught.value.detail} {caught.value.hint}"


UNSAFE = {*map(chr, range(32)), "\x7f", "\u2028", "\u202e"}


def refusal(raw: object) -> str:
    try:
        config.load_apps(raw)
    except BadData as error:
        return error.summary
    return ""


TEXT_KEYS = ["wsgi", "python", "migrate", "client_max_body_size", "health.path", "health.body", "source.ref"]
TEXT_KEYS += ["processes.worker.command", "schedules.cleanup.command", "schedules.cleanup.at"]


@given(st.text(), st.sampled_from(TEXT_KEYS))
def test_accepted_text_has_no_line_break_or_control_character(text: str, path: str) -> None:
    problem = refusal(with_value(path, text))
    assert (f"apps.shop.{path.split('.')[0]}" in problem) if problem else not UNSAFE.intersection(text)


@given(st.text())
def test_accepted_domain_and_name_are_harmless_everywhere(text: str) -> None:
    for raw in ({text: GOOD}, with_value("domains", [text])):
        assert refusal(raw) or all(char.isascii() and (char.isalnum() or char in ".-") for char in text)


def test_database_url() -> None:
    assert config.database_url("shop", "", "") == "postgresql://shop@/shop?host=/run/postgresql"
    remote = config.database_url("shop", "p@ss/w:rd", "10.0.0.5")
    assert remote == "postgresql://shop:p%40ss%2Fw%3Ard@10.0.0.5:5432/shop?sslmode=require"
    assert "@[fd00::1]:5432/" in config.database_url("shop", "x", "fd00::1")


@pytest.mark.parametrize("name", ["libpq-dev", "g++", "libglib2.0-0", "libstdc++6"])
def test_system_packages(name: str) -> None:
    app = config.load_apps({"shop": {"domains": ["a.example.com"], "source": {"path": "x"}, "system_packages": [name]}})
    assert app["shop"].system_packages == [name]


@pytest.mark.parametrize(
    "name", ["nginx-", "-y", "lib*", "a b", "gcc\n", "Gcc", "a=1", "gcc/stable", "x", "./a.deb", ""]
)
def test_what_is_no_package_is_refused(name: str) -> None:
    """apt would remove nginx, take an option, a pattern, a version or a file."""
    with pytest.raises(BadData, match=r"apps\.shop\.system_packages\[0\]"):
        config.load_apps({"shop": {"domains": ["a.example.com"], "source": {"path": "x"}, "system_packages": [name]}})


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"repo": "https://x.org/a.git", "folder": "../b"}, "folder"),
        ({"repo": "https://x.org/a.git", "folder": "/etc"}, "folder"),
        ({"repo": "https://x.org/a.git", "folder": "a/../../b"}, "folder"),
        ({"repo": "https://x.org/a.git", "folder": "-x"}, "folder"),
        ({"repo": "https://x.org/a.git", "folder": "a b"}, "folder"),
        ({"path": "x", "folder": "backend"}, "folder: is for `repo`"),
    ],
)
def test_folders_that_are_refused(source: dict[str, str], said: str) -> None:
    with pytest.raises(BadData, match=said):
        config.load_apps({"shop": {"domains": ["a.example.com"], "source": source}})


def test_folder_of_a_repository() -> None:
    source = {"repo": "https://x.org/a.git", "folder": "services/back-end"}
    assert (
        config.load_apps({"shop": {"domains": ["a.example.com"], "source": source}})["shop"].source.folder
        == source["folder"]
    )

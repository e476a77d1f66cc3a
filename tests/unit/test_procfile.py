"""What runs beside the web server: the Procfile, what the apps model changes of it, schedulers."""

from __future__ import annotations

from typing import Any

import pytest

from zarpar import procfile
from zarpar.config import App, load_apps
from zarpar.errors import BadData

BEAT = '--schedule "$ZARPAR_SHARED/celerybeat-schedule"'
LINES = {"web": "gunicorn app:app", "release": "flask db upgrade", "worker": "rq worker", "mailer": "python mail.py"}


def app(**values: Any) -> App:
    return load_apps({"shop": {"domains": ["shop.example.com"], "source": {"path": "."}, **values}})["shop"]


def names(**values: Any) -> dict[str, int]:
    return {each["name"]: each["count"] for each in procfile.processes("shop", app(**values), LINES)}


def test_lines() -> None:
    text = (
        "\ufeff# of the app\r\nweb: gunicorn app:app # it's main\r\n\r\n  my_worker-2:\tcelery -A 'a b' worker:x  \nB:b"
    )
    assert procfile.parse(text) == {
        "web": "gunicorn app:app # it's main",
        "my_worker-2": "celery -A 'a b' worker:x",
        "B": "b",
    }
    assert procfile.parse("") == {}


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("rq worker --url $REDIS_URL letters", "$REDIS_URL"),
        ("pg_dump ${DATABASE_URL} > $ZARPAR_SHARED/dump", "$DATABASE_URL"),
        ('A=1 B="x y" poll --token "$API_TOKEN"', "$API_TOKEN"),
        ("A=$MAIL_KEY true && send $MAIL_KEY", "$MAIL_KEY"),
        ("RQ_REDIS_URL=$REDIS_URL rq worker letters", ""),
        ('cd queue && A=1 KEY="$SECRET_KEY" exec run', ""),
        ("run --port $PORT --to $KEYBOARD --at $BASE_URL", ""),
        ("A=" + '"' * 4001 + " b", ""),
    ],
)
def test_a_secret_that_ps_would_show_is_warned_of(command: str, shown: str) -> None:
    told = procfile.note({"worker": command, "release": "flask db upgrade"})
    assert told.startswith(f"worker has {shown} among its arguments: ") if shown else not told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("web: a\nworker\n", "line 2: is not `name: command`"),
        ("web: a\n\n# b\nworker:\n", "line 4: is not `name: command`"),
        ("../x: a\n", "line 1: is not"),
        ("a b: c\n", "line 1: is not"),
        ("1st: c\n", "line 1: is not"),
        (f"{'x' * 31}: c\n", "line 1: is not"),
        ("a: b\nworker: say 'it\n", "line 2: cannot be split into words: No closing quotation"),
        ("a: b\\", "line 1: cannot be split into words"),
        ("a: b\na: c\n", "line 2: names a a second time"),
        ("a: b\x1b[31m\n", "line 1: holds a control character"),
        ("a: b\u2028c: d\n", "line 1: holds a control character"),
        (f"a: {'b' * 4097}\n", "line 1: is longer than 4096 characters"),
    ],
)
def test_line_that_cannot_be_read_is_named(text: str, words: str) -> None:
    with pytest.raises(BadData) as caught:
        procfile.parse(text)
    assert words in caught.value.summary
    assert "\x1b" not in caught.value.detail


def test_default_is_each_line_once_but_web_and_release() -> None:
    assert names() == {"worker": 1, "mailer": 1}


def test_mapping_scales_and_turns_off_and_adds() -> None:
    wanted = {"worker": 4, "mailer": 0, "clock": {"command": "python clock.py"}}
    assert names(processes=wanted) == {"worker": 4, "clock": 1}


def test_command_of_the_mapping_wins() -> None:
    found = procfile.processes("shop", app(processes={"worker": {"command": "rq worker high"}}), LINES)
    assert [each["command"] for each in found if each["name"] == "worker"] == ["rq worker high"]


@pytest.mark.parametrize("count", [0, 1])
def test_process_that_nothing_says_how_to_run(count: int) -> None:
    with pytest.raises(BadData, match=r"apps\.shop\.processes\.wroker: neither") as caught:
        names(processes={"wroker": count})
    assert "worker, mailer" in caught.value.hint


SINGLE = [
    ("beat", "anything"),
    ("clock", "python clock.py"),
    ("scheduler", "python clock.py"),
    ("x", "celery -A app beat"),
    ("x", "celery beat -A app"),
    ("x", "python -m celery --app=app beat -l info"),
    ("x", "cd src && /opt/bin/celery -q -A app beat"),
    ("x", "celery -A app worker -l info -B"),
    ("x", "celery -A app worker --beat"),
    ("x", "rqscheduler --host x"),
]


@pytest.mark.parametrize(("name", "command"), SINGLE)
def test_scheduler_runs_once(name: str, command: str) -> None:
    lines = {name: command}
    assert [each["single"] for each in procfile.processes("shop", app(), lines)] == [True]
    with pytest.raises(BadData, match=rf"apps\.shop\.processes\.{name}: it is a scheduler, and must not run 2 times"):
        procfile.processes("shop", app(processes={name: 2}), lines)


@pytest.mark.parametrize(
    "command",
    [
        "celery -A beat worker",
        "celery -A app worker -Q beat",
        "celery -A app worker -n beat && echo -B",
        "python beat.py",
        "echo celery; beat",
        "celery",
        "celery -A",
    ],
)
def test_what_only_looks_like_a_scheduler(command: str) -> None:
    assert not procfile.is_single("worker", command)
    assert procfile.runnable(command) == command


@pytest.mark.parametrize(
    ("command", "runs"),
    [
        ("celery -A app beat", f"celery -A app beat {BEAT}"),
        ("celery -A app beat -l info | tee x", f"celery -A app beat {BEAT} -l info | tee x"),
        ("celery -A app beat;echo -s", f"celery -A app beat {BEAT};echo -s"),
        ("celery -A app worker -B # with beat", f"celery -A app worker {BEAT} -B # with beat"),
        ("celery -A app beat -S redbeat.RedBeatScheduler", f"celery -A app beat {BEAT} -S redbeat.RedBeatScheduler"),
        ("celery -A app beat -s /tmp/x", "celery -A app beat -s /tmp/x"),
        ("celery -A app beat -s/tmp/x", "celery -A app beat -s/tmp/x"),
        ("celery -A app beat --schedule=/tmp/x", "celery -A app beat --schedule=/tmp/x"),
        ("celery -A app beat --schedule /tmp/x", "celery -A app beat --schedule /tmp/x"),
        ("rqscheduler", "rqscheduler"),
    ],
)
def test_beat_keeps_its_schedule_where_it_may_write(command: str, runs: str) -> None:
    assert procfile.runnable(command) == runs


def test_schedules_are_in_order() -> None:
    wanted = {"b": {"command": "x", "at": "daily"}, "a": {"command": "y", "at": "hourly"}}
    assert procfile.schedules(app(schedules=wanted)) == [
        {"name": "a", "command": "y", "at": "hourly"},
        {"name": "b", "command": "x", "at": "daily"},
    ]

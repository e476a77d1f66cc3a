"""The search for planted secrets finds them, in every form and place; what an app printed comes back without them."""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.planted import CONTROL, ELSEWHERE, SHAPES, Finder, HostWatch, Watch, plant, process_that_shows

from zarpar import config
from zarpar.diagnosis import without_tags
from zarpar_host import envfile, masking
from zarpar_host.cli import _bug
from zarpar_host.run import run

VALUES, CORES = plant()
FINDER = Finder(VALUES, CORES)


def test_there_are_25_and_the_app_may_have_them() -> None:
    assert len(SHAPES) == 25
    assert set(VALUES) == {*SHAPES, CONTROL}
    env = {name: value for name, value in VALUES.items() if name not in ELSEWHERE}
    app = {"domains": ["a.example.com"], "source": {"path": "x"}, "env": env}
    assert config.load_apps({"shop": {**app, "database_password": VALUES["DATABASE_PASSWORD"]}})


@pytest.mark.parametrize("name", VALUES)
def test_every_form_is_found(name: str) -> None:
    value = VALUES[name]
    raw = value.encode()
    forms = [
        value,
        quote(value),
        quote(value, safe=""),
        json.dumps({"x": value}),
        json.dumps({"x": value}, ensure_ascii=False),
        repr(value),
        repr(raw),
        raw.hex(),
        raw.hex().upper(),
        envfile.dump({"X": value}),
        *(base64.b64encode(before + raw + b"yz").decode() for before in (b"", b"a", b"ab", b"abc")),
        base64.urlsafe_b64encode(b"key=" + raw).decode(),
    ]
    for form in forms:
        assert FINDER.find(f"before {form} after") == {name}, form
    assert FINDER.find("nothing of the kind") == set()


def test_patterns_for_grep_are_lines_that_tell_whose_they_are() -> None:
    lines = FINDER.patterns().splitlines()
    assert "" not in lines
    assert {FINDER.name_of(line) for line in lines} == set(VALUES)


def test_watch_sees_processes_and_files(tmp_path: Path) -> None:
    watch = Watch(FINDER, [tmp_path])
    with watch():
        kept = tmp_path / "zarpar-x" / "artifacts"
        kept.mkdir(parents=True)
        (kept / "event.json").write_text(json.dumps({"x": VALUES[CONTROL]}))
        process = process_that_shows(VALUES[CONTROL], str(tmp_path / "end"))
        given_up = time.monotonic() + 60
        while not watch.environments and time.monotonic() < given_up:
            time.sleep(0.05)
    (tmp_path / "end").touch()
    assert process.wait() == 0
    assert watch.looks > 1
    assert set(watch.arguments) == set(watch.environments) == set(watch.files) == {CONTROL}


def test_watch_on_a_host_sees_processes(tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    watch = HostWatch(FINDER, ["env"], str(stop), limit=20)
    watch.start()
    process = process_that_shows(VALUES[CONTROL], str(tmp_path / "end"))
    stop.touch()
    watch.result()
    (tmp_path / "end").touch()
    assert process.wait() == 0
    assert set(watch.arguments) == {CONTROL}


def test_masked_output_of_an_app() -> None:
    env = {name: value for name, value in VALUES.items() if name not in (*ELSEWHERE, CONTROL)}
    env["DATABASE_URL"] = config.database_url("shop", VALUES["DATABASE_PASSWORD"], "192.0.2.1")
    printed = "\n".join(
        [
            *env.values(),
            *(repr(value) for value in env.values()),
            *(json.dumps(value) for value in env.values()),
            envfile.parse(envfile.dump(env))["PRIVATE_KEY"],
            repr(env),
            "File wsgi.py, line 5: KeyError: MAIL_SERVER",
        ]
    )
    said = masking.mask(printed, env)
    assert FINDER.find(said) == set()
    assert "File wsgi.py, line 5: KeyError: MAIL_SERVER" in said


def test_what_is_no_secret_stays() -> None:
    env = {
        "FLASK_ENV": "production",
        "DEBUG_TOKEN": "x",
        "DATABASE_URL": "postgresql://shop@/shop?host=/run/postgresql",
    }
    text = "production: postgresql://shop at x, https://example.com/a@b, ssh://git@example.com/x, git@example.com:x"
    assert masking.mask(text, env) == text


def test_logins_in_addresses_are_left_out_of_what_programs_say() -> None:
    text = f"error: https://user:{VALUES[CONTROL]}@example.com/simple/ and https://{VALUES[CONTROL]}@example.com"
    done = run(["printf", "%s", text], check=False)
    assert FINDER.find(done.tail) == set()
    assert "example.com/simple/" in done.tail
    assert FINDER.find(masking.logins(text)) == set()


def test_a_bug_does_not_tell_its_value() -> None:
    with pytest.raises(UnicodeEncodeError) as caught:
        (VALUES[CONTROL] + "\ud800").encode()
    assert CONTROL in FINDER.find(repr(caught.value)), "repr would tell it: the reason for this test"
    assert FINDER.find(_bug("prepare", caught.value)["msg"]) == set()


def test_a_tag_in_ansible_s_words() -> None:
    said = f"[ERROR]: YAML parsing failed: Could not determine a constructor for the tag '!{VALUES[CONTROL]}'."
    assert FINDER.find(without_tags(said)) == set()

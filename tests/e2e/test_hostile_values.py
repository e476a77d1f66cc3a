"""Hostile texts as values of a real app: each arrives as it was written, and none of them runs anything anywhere."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import hostile
from support.report import note
from support.site import Site
from support.world import BIN, ROOT, clean_environment

from zarpar import vault

OTHER, DOMAIN = "hostile", "hostile.e2e.example.test"
SHOW = """
import json, os

from notes import create_app

app = create_app()


@app.get("/hostile")
def hostile():
    return json.dumps({name: value for name, value in os.environ.items() if name.startswith("HOSTILE_")})
"""
REFUSED = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\U0001fffe\U0001ffff\U0010ffff]")
VALUES = {
    f"HOSTILE_{number}": text
    for number, text in enumerate(text for text in hostile.strings("a value") if not REFUSED.search(text))
}
LISTING = "find /etc/nginx /etc/systemd /etc/zarpar /srv -printf '%p %T@\\n' | sort"
PRINT = "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('HOSTILE_')}))"


@pytest.fixture(scope="module")
def app_with_values(site: Site) -> Iterator[Site]:
    """A second app, which has them in its environment, and in its vault every second one."""
    (Path(hostile.CANARY)).unlink(missing_ok=True)
    site.on_host("rm", "-f", hostile.CANARY)
    in_vault = [name for number, name in enumerate(VALUES) if number % 2 and not vault.CONTROLS.search(VALUES[name])]
    site.world.keep_secret(
        {"vault_notes_secret_key": site.secret, **{f"vault_{name.lower()}": VALUES[name] for name in in_vault}}
    )
    env = {"SECRET_KEY": "the-board-s-own-key", "TRUSTED_PROXIES": 1}
    env |= {name: "{{ vault_" + name.lower() + " }}" for name in in_vault}
    app = site.world.add_app(OTHER, [DOMAIN], env=env)
    site.world.write()
    _add_literals(site, {name: text for name, text in VALUES.items() if name not in in_vault})
    app.commit("Shows its values", {"wsgi.py": SHOW})
    done = site.world.deploy()
    assert done.code == 0, str(done)
    note(f"{len(VALUES)} hostile values")
    site.settle()
    yield site
    del site.world.apps[OTHER]
    site.world.keep_secret({"vault_notes_secret_key": site.secret})
    site.world.write()


def _add_literals(site: Site, values: dict[str, str]) -> None:
    """Write values into apps.yml as a person has to: what holds Jinja's marks is tagged."""
    path = site.world.inventory / "group_vars" / "all" / "apps.yml"
    lines = path.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line == f"  {OTHER}:")
    place = next(number for number in range(start, len(lines)) if lines[number] == "    env:")
    more = [f"      {name}: {_quoted(text)}" for name, text in values.items()]
    path.write_text("\n".join([*lines[: place + 1], *more, *lines[place + 1 :]]) + "\n")


def _quoted(text: str) -> str:
    """A text in YAML, tagged where Ansible would take it for a template (and only there: the tag drops the quotes)."""
    plain = "".join(char if " " <= char <= "~" and char not in '"\\' else f"\\U{ord(char):08x}" for char in text)
    return f'!unsafe "{plain}"' if any(mark in text for mark in ("{{", "{%", "{#")) else f'"{plain}"'


def test_enough_values() -> None:
    assert len(VALUES) >= 100


def test_the_running_app_has_each_as_it_was_written(app_with_values: Site) -> None:
    status, body = app_with_values.world.visit(app_with_values.host, f"https://{DOMAIN}/hostile")
    assert status == 200, body[:500]
    assert json.loads(body) == VALUES


def test_a_one_off_command_has_each_as_it_was_written(app_with_values: Site) -> None:
    world = app_with_values.world
    done = world.run(str(BIN / "zarpar"), "run", str(world.inventory), "--app", OTHER, "--", "python", "-c", PRINT)
    assert done.code == 0, str(done)
    assert json.loads(done.out) == VALUES


def test_each_is_one_word_of_a_one_off_command(app_with_values: Site) -> None:
    world = app_with_values.world
    echo = "import json, sys; print(json.dumps(sys.argv[1:]))"
    words = [text for text in VALUES.values() if len(text) < 1000]
    argv = [str(BIN / "zarpar"), "run", str(world.inventory), "--app", OTHER, "--", "python", "-c", echo, *words]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
        env={**clean_environment(), **world.environment},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == words


def test_the_unit_and_the_environment_file_have_no_line_more(app_with_values: Site) -> None:
    live = app_with_values.world.state(app_with_values.host, OTHER)["live"]
    unit = f"zarpar-{OTHER}@{live['slot']}.service"
    shown = app_with_values.on_host("systemctl", "show", unit, "-p", "ExecStartPre,ExecStart,NRestarts")
    assert "ExecStartPre" not in shown
    assert shown.count("path=") == 1
    file = f"/etc/zarpar/apps/{OTHER}/env/{live['release']}"
    assert app_with_values.on_host("stat", "-c", "%a %U", file).split() == ["600", "root"]
    journal = app_with_values.on_host("journalctl", "--no-pager", "--unit", unit)
    assert "Ignoring invalid environment" not in journal
    assert "Failed to load environment" not in journal


def test_nothing_ran_anywhere(app_with_values: Site) -> None:
    assert not Path(hostile.CANARY).exists()
    assert not app_with_values.world.succeeds_on(app_with_values.host, "test", "-e", hostile.CANARY)
    # slots have a /tmp of their own
    found = app_with_values.on_host("find", "/tmp", "/var/tmp", "-name", Path(hostile.CANARY).name)  # noqa: S108
    assert found == ""


def test_the_first_app_still_serves(app_with_values: Site) -> None:
    assert app_with_values.serving() == app_with_values.live()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("domains", ["a.example.test; return 200 x; #"]),
        ("static", {"/static/": "x; } server { listen 81; }"}),
        ("client_max_body_size", "1M; include /etc/passwd"),
        ("limits", {"memory": f"1M\nExecStartPre=/bin/touch {hostile.CANARY}"}),
        ("migrate", f"true\ntouch {hostile.CANARY}"),
        ("wsgi", f"wsgi:app $(touch {hostile.CANARY})"),
        ("source", {"repo": f"ext::sh -c touch% {hostile.CANARY}"}),
        ("env", {f"A=$(touch {hostile.CANARY})": "x"}),
        ("env", {"A": "\x00"}),
        ("python", f"3.12; touch {hostile.CANARY}"),
    ],
)
def test_what_cannot_be_written_anywhere_is_refused_by_name(app_with_values: Site, key: str, value: object) -> None:
    app = app_with_values.world.apps[OTHER]
    before = app_with_values.on_host("sh", "-c", LISTING)
    app_with_values.world.apps[OTHER] = {**app, key: value}
    app_with_values.world.write()
    try:
        done = app_with_values.world.deploy()
    finally:
        app_with_values.world.apps[OTHER] = app
    assert done.code == 2, str(done)
    assert f"apps.{OTHER}" in done.err
    assert key in done.err
    after = app_with_values.on_host("sh", "-c", LISTING)
    assert after == before
    test_nothing_ran_anywhere(app_with_values)

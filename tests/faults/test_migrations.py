"""Migrations that fail in every way: the old release serves all the time, and a mended commit ends well."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
from support import trial
from support.report import note
from support.site import APP, Site
from support.whole import check_whole
from support.world import until

from zarpar import lab

PARTLY = """with op.get_context().autocommit_block():
    op.execute("ALTER TABLE note ADD COLUMN IF NOT EXISTS half integer")
"""
TIMEOUT = 8  # of the kind that only a time limit ends


@dataclass(frozen=True)
class Kind:
    """A migration's body, words that the message must have, and how a mended one looks (the usual one when empty)."""

    body: str
    words: str
    mended: str = ""
    number: str = ""
    keys: Callable[[dict[str, Any]], None] = lambda _keys: None
    reader: bool = False
    timeout: int = 120


def _missing_program(keys: dict[str, Any]) -> None:
    keys["migrate"] = "flusk db upgrade"


KINDS = {
    "raises": Kind("raise RuntimeError('no such luck')", "no such luck"),
    "hangs": Kind("__import__('time').sleep(600)", f"did not end within {TIMEOUT} s", timeout=TIMEOUT),
    "statement hangs": Kind("op.execute('SELECT pg_sleep(600)')", "statement timeout"),
    "syntax error": Kind("op.execute('SELECT 1'", "SyntaxError"),
    "kills itself": Kind("__import__('os').kill(__import__('os').getpid(), 9)", "failed with code"),
    "kills all of it": Kind("__import__('os').killpg(0, 9)", "failed with code -9"),
    "wrong revision": Kind("", "revision", number="wrong"),
    "lock timeout": Kind("", "lock timeout", reader=True),
    "partial statements": Kind(f"{PARTLY}raise RuntimeError('half way')", "half way", mended=PARTLY),
    "missing program": Kind("", "there is no program 'flusk'", keys=_missing_program),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.short if name == "raises" else ()) for name in KINDS]
)
def test_failing_migration(site: Site, name: str) -> None:
    kind = KINDS[name]
    before = site.serving()
    keys = site.world.apps[APP]
    good_command = keys["migrate"]
    keys["migration"] = {"timeout": kind.timeout, "lock_timeout": 2, "statement_timeout": 4}
    kind.keys(keys)
    site.world.write()
    revision = _spoil(site, kind)
    commit = site.app.commit(f"Bad migration: {name}")
    with site.load() as seen, _reader(site) if kind.reader else nullcontext():
        done = site.world.deploy()
    note(f"failing migration, {name}: exit code {done.code} after {done.seconds:.0f} s; {seen}")
    assert done.code == 1, str(done)
    assert len(done.errors()) == 1, str(done)
    assert kind.words in done.err, str(done)
    assert "still serves" in done.err, str(done)
    assert [str(trouble) for trouble in seen.troubles] == []
    assert set(seen.seen) == {before}
    assert site.live() == before
    check_whole(site)

    keys["migrate"] = good_command
    site.world.write()
    if revision:
        (site.app.folder / "migrations" / "versions" / f"{revision}_trial.py").unlink()
        revision = trial.migration(site.app, kind.mended)
    else:
        revision = trial.migration(site.app)
    site.base = site.app.commit(f"Mended migration: {name}")
    site.again()
    assert site.world.state(site.host, APP)["releases"][site.live()]["schema"] == [revision]
    assert commit not in site.live()


def _spoil(site: Site, kind: Kind) -> str:
    """Write the bad migration; return the revision of its file."""
    if kind.number:
        revision = trial.migration(site.app)
        path = site.app.folder / "migrations" / "versions" / f"{revision}_trial.py"
        path.write_text(path.read_text().replace('down_revision = "', f'down_revision = "{kind.number}'))
        return revision
    if kind.body or kind.reader:
        return trial.migration(site.app, kind.body)
    return ""


@contextmanager
def _reader(site: Site) -> Iterator[None]:
    """Somebody reads the table and does not end the transaction."""
    argv = [*lab.exec_command(site.host), "runuser", "-u", APP, "--", "psql", "-X", "-q", "-d", APP]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin
        assert reader.stdout
        reader.stdin.write("BEGIN; SELECT count(*) FROM note;\n")
        reader.stdin.flush()
        until(lambda: reader.stdout and reader.stdout.readline(), 20, "the reader has read")
        yield
        reader.stdin.close()

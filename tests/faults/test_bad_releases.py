"""Releases that are bad in every way that we could think of: visitors stay with the old one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from support import trial
from support.report import note
from support.site import APP, Site
from support.world import until

Spoil = Callable[[Site], None]


@dataclass(frozen=True)
class Kind:
    """A way to be bad: what to change, and words that the message must have."""

    spoil: Spoil
    words: str


def _when_served(statement: str) -> Spoil:
    """A statement that only gunicorn comes to; the migration, which loads the app as well, goes well."""
    guard = f"import sys\n\nif 'gunicorn' in sys.argv[0]:\n    {statement}\n"
    return lambda site: site.app.write({"wsgi.py": f"{guard}from notes import create_app\n\napp = create_app()\n"})


def _planned(**settings: Any) -> Spoil:
    return lambda site: site.app.write({"trial.json": json.dumps(settings)})


def _setting(key: str, value: Any) -> Spoil:
    def spoil(site: Site) -> None:
        site.world.apps[APP][key] = value
        site.world.write()

    return spoil


def _unlocked_dependency(site: Site) -> None:
    site.app.edit("pyproject.toml", "dependencies = [", 'dependencies = [\n    "itsdangerous<1",')


def _without_secret_key(site: Site) -> None:
    _setting("env", {"TRUSTED_PROXIES": 1})(site)


NEVER_LIVE = {
    "import error": Kind(_when_served("import nothing_like_this"), "nothing_like_this"),
    "syntax error": Kind(_when_served("exec('(')"), "SyntaxError"),
    "exits at once": Kind(_when_served("sys.exit(7)"), "exited with code 7"),
    "never listens": Kind(_when_served("__import__('time').sleep(3600)"), "not healthy within 15 s"),
    "answers 503": Kind(_planned(ill_until=9999), "answered 503"),
    "200 with the wrong body": Kind(_planned(health_body="Welcome to nginx"), "without the text"),
    "hangs": Kind(_planned(health_seconds=3600), "not healthy within 15 s: no answer in time"),
    "too slow": Kind(_when_served("__import__('time').sleep(30)"), "not healthy within 15 s"),
    "missing dependency": Kind(_unlocked_dependency, "your project depends on itsdangerous<1"),
    "wrong environment": Kind(_without_secret_key, "SECRET_KEY is not set"),
    "failing build command": Kind(_setting("build", ["python -c 'raise SystemExit(3)'"]), "failed with code 3"),
}  # fmt: skip
DIES_LATER = {"exits after 5 s": 5, "dies 20 s after the flip": 20}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.short if name == "import error" else ()) for name in NEVER_LIVE]
)
def test_bad_release_never_gets_visitors(site: Site, name: str) -> None:
    kind = NEVER_LIVE[name]
    before = site.serving()
    _setting("health", {**site.world.apps[APP]["health"], "timeout": 15})(site)
    kind.spoil(site)
    commit = site.app.commit(f"Bad: {name}")
    with site.load() as seen:
        done = site.world.deploy()
    note(f"bad release, {name}: exit code {done.code} after {done.seconds:.0f} s; {seen}")
    assert done.code == 1, str(done)
    assert len(done.errors()) == 1, str(done)
    assert kind.words in done.err, str(done)
    assert [str(trouble) for trouble in seen.troubles] == []
    assert set(seen.seen) == {before}, "somebody saw another release"
    assert (site.serving(), site.live()) == (before, before)
    assert commit not in json.dumps(site.world.state(site.host, APP)["live"])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.short if "20" in name else ()) for name in DIES_LATER]
)
def test_release_that_dies_after_the_flip_goes_back_by_itself(site: Site, name: str) -> None:
    """Nobody does anything: the host sees it within the watch, and is back on the old release."""
    before = site.serving()
    with site.load() as seen:
        commit = trial.plan(site.app, f"Bad: {name}", die_after=DIES_LATER[name] + 2)  # two seconds to start
        done = site.world.deploy()
        until(lambda: site.live() == before, 90, "the host goes back by itself")
        until(lambda: site.serving() == before, 30, "the old release serves")
    flipped = seen.first_answer(commit)
    early = [str(trouble) for trouble in seen.troubles if trouble.ended < flipped]
    note(f"bad release, {name}: exit code {done.code} after {done.seconds:.0f} s; {seen}; before the flip {len(early)}")
    assert done.code in (0, 1), str(done)
    assert early == []
    assert len(seen.troubles) < seen.total / 4, "far too many lost after the flip"
    facts = next(f for name, f in site.world.state(site.host, APP)["releases"].items() if name.startswith(commit))
    assert facts["status"] == "bad"
    status = site.world.zarpar("status")
    assert before in status.text, str(status)


@pytest.mark.short
def test_it_goes_back_as_well_while_the_next_release_is_built(site: Site) -> None:
    """A build may take many minutes; visitors do not wait for it. The release that is built is then activated."""
    before = site.serving()
    commit = trial.plan(site.app, "Falls ill", ill_by_file=True)
    done = site.world.deploy()
    assert done.code == 0, str(done)
    assert site.serving().startswith(commit)
    commit = trial.plan(site.app, "The next", build_seconds=300)
    running = site.world.begin_deploy()
    until(lambda: site.on_host(*trial.BUILDING), 60, "the next release is built")
    site.on_host("touch", trial.ILL)
    try:
        until(lambda: site.live() == before, 60, "the host goes back by itself")
        assert site.serving() == before
        assert site.on_host(*trial.BUILDING), "the next release is built yet"
    finally:
        site.on_host("rm", trial.ILL)
        site.on_host(*trial.BUILDING, "-delete")
    done = running.wait()
    assert done.code == 0, str(done)
    assert site.serving().startswith(commit)

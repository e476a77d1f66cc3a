"""What an app lacks on its host is told as the line for apps.yml that mends it: who follows it gets there.

On a bare host, with packages that are really built and a library that is really loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import yaml
from support import samples
from support.report import note
from support.world import ROOT, Done, World

HOST, ADDRESS, DOMAIN = "lacks1", "10.77.0.189", "lacks.example.test"
LIMIT = 5  # times that somebody follows the advice before losing heart


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(
        tmp_path_factory.mktemp("lacks"), "lacks", {HOST: {"address": ADDRESS, "names": [DOMAIN]}}, web=[HOST], db=[]
    )
    made.copy(ROOT / "tests" / "apps" / "plain", "plain")
    made.apps["plain"] = {"domains": [DOMAIN], "source": {"path": "../../plain"}, "tls": "off"}
    made.write()
    made.up()
    yield made
    made.remove()


def _change(world: World, requirement: str, line: str) -> None:
    """A commit of the app that needs one thing more: `line` is run when it is loaded."""
    app = samples.App(world.folder / "plain")
    for name, text in (("requirements.txt", f"{requirement}\n"), ("wsgi.py", f"\n{line}\n")):
        old = (app.folder / name).read_text()
        (app.folder / name).write_text(old + text)
    app.commit(f"Needs {requirement}")


def _advised(done: Done) -> list[str]:
    """What a failed deploy says to write into apps.yml."""
    assert done.code == 1, str(done)
    found = re.search(r"Add to the app in apps\.yml: (system_packages: \[[^\]]*\])", done.text.replace("\n", " "))
    assert found, f"no advice: {done}"
    return list(yaml.safe_load(re.sub(r"\s+", " ", found[1]))["system_packages"])


def _follow(world: World) -> list[str]:
    """Deploy, and do what the message says, until it works; return what was added."""
    added: list[str] = []
    for _ in range(LIMIT):
        done = world.deploy()
        if done.code == 0:
            return added
        advised = _advised(done)
        assert set(advised) - set(world.apps["plain"].get("system_packages", [])), f"the same advice again: {done}"
        wanted = world.apps["plain"].setdefault("system_packages", [])
        new = [name for name in advised if name not in wanted]
        wanted += new
        added += new
        world.write()
    raise AssertionError(f"still not there after {added}")


def _serves(world: World) -> None:
    status, body = world.visit(HOST, f"http://{DOMAIN}/knots/10")
    assert (status, body.strip()) == (200, '{"kmh":18.52}')


def test_a_package_that_is_built_from_source(world: World) -> None:
    """psycopg2 has no wheel: it needs a compiler, Python's headers and PostgreSQL's."""
    _change(world, "psycopg2==2.9.10", "import psycopg2")
    added = _follow(world)
    note(f"to build psycopg2: {', '.join(added)}")
    assert {"libpq-dev", "build-essential"} <= set(added)
    _serves(world)


def test_a_library_that_is_loaded_at_the_start(world: World) -> None:
    """It fails before the switch: the release before serves on."""
    before = world.live(HOST, "plain")
    _change(world, "python-magic==0.4.27", "import magic")
    done = world.deploy()
    assert world.live(HOST, "plain") == before
    assert _advised(done) == ["libmagic1"]
    _serves(world)
    assert _follow(world) == ["libmagic1"]
    assert world.live(HOST, "plain") != before
    _serves(world)

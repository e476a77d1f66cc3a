"""One host that was deployed to as a user does it the first time; the tests go on from there."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.report import pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown  # noqa: F401
from support.site import Site, make_site
from support.world import World, alone


class ByHost(LoadScopeScheduling):
    """With `-n 2`, tests that share hosts are run by one worker: all that are not named here share `site`."""

    ALONE = (
        "test_bad_host.py",
        "test_commands.py",
        "test_init.py",
        "test_missing_packages.py",
        "test_two_web_servers.py",
        "test_workers.py",
    )

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0].rpartition("/")[2]
        if file == "test_apps.py":
            return "apps on Debian 12" if "debian12" in nodeid else "apps on Debian 13"
        return file if file in self.ALONE else "site"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return ByHost(config, log)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and not config.option.collectonly:
        held = ExitStack()
        held.enter_context(alone("e2e"))
        config.add_cleanup(held.close)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site on a host that nothing was deployed to yet. Its SECRET_KEY is in a vault, and must turn up nowhere."""
    site = make_site(
        tmp_path_factory.mktemp("e2e"),
        name="e2e",
        host="e2e1",
        address="10.77.0.121",
        domain="notes.e2e.example.test",
        more_names=["www.notes.e2e.example.test", "board.e2e.example.test", "hostile.e2e.example.test"],
        secret=f"canary-{secrets.token_hex(16)}",
    )
    site.world.up()
    yield site
    site.world.remove()


@pytest.fixture(scope="session")
def site(fresh: Site) -> Site:
    """The site after its first deploy, which is kept as `site.first`."""
    fresh.began = time.monotonic()
    fresh.first = fresh.world.deploy()
    assert fresh.first.code == 0, str(fresh.first)
    return fresh


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A bare host, which must stay bare. No inventory of the lab: `deploy` must not mend what the tests broke."""
    world = World(
        tmp_path_factory.mktemp("bare"), "bare", {"e2e2": {"address": "10.77.0.122"}}, web=["e2e2"], db=["e2e2"]
    )
    world.add_app("notes", ["notes.bare.example.test"])
    world.write()
    world.up()
    world.run_on("e2e2", "runuser", "-u", "deploy", "--", "sudo", "true")  # the first time, sudo leaves a file behind
    world.is_lab = False
    world.write()
    yield world
    world.is_lab = True
    world.write()
    world.remove()

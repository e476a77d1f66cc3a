"""One host with a trial app; each test finds it well, and leaves it in any state.

`pytest tests/faults` is the whole; `pytest -m short tests/faults` is what every change is tested with. With
`-n 2 --dist loadfile` two workers share the tests; each has a host of its own.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import trial
from support.report import pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown  # noqa: F401
from support.site import APP, Site, make_site
from support.world import alone

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "short: among the few that every change is tested with")


@pytest.fixture(scope="session", autouse=True)
def _alone() -> Iterator[None]:
    with alone(f"faults-{WORKER}"):
        yield


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The host after its first deploy."""
    site = make_site(
        tmp_path_factory.mktemp("faults"),
        name=f"faults{WORKER}",
        host=f"faults{WORKER}",
        address=f"10.77.0.{140 + int(WORKER)}",
        domain=f"notes.faults{WORKER}.example.test",
        **trial.KEYS,
    )
    site.base = trial.make_trial(site.app)
    site.world.up()
    first = site.world.deploy()
    assert first.code == 0, str(first)
    yield site
    site.world.remove()


@pytest.fixture
def site(host: Site) -> Iterator[Site]:
    """The host, well, on the good tree; the settings of the app are put back afterwards."""
    host.heal()
    settings = copy.deepcopy(host.world.apps[APP])
    yield host
    host.world.apps[APP] = settings
    host.world.write()

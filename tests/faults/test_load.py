"""Good releases under constant load: nobody notices."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import trial
from support.report import note
from support.site import APP, Site


@pytest.fixture(params=["gunicorn", "granian"])
def server(request: pytest.FixtureRequest, site: Site) -> Iterator[str]:
    """What the releases of a test are served by; the first of them is the change to it."""
    before = site.world.apps[APP]
    site.world.apps[APP] = {**before, "server": request.param}
    site.world.write()
    yield request.param
    site.world.apps[APP] = before
    site.world.write()


@pytest.mark.parametrize("releases", [pytest.param(3, marks=pytest.mark.short), 50])
def test_releases_under_load_lose_nothing(site: Site, server: str, releases: int) -> None:
    commits = []
    with site.load(slow=True) as seen:
        for number in range(releases):
            commits.append(trial.plan(site.app, f"Good release {number + 1} of {releases}"))
            done = site.world.deploy()
            assert done.code == 0, str(done)
    note(f"{releases} good releases to {server} under load: {seen}")
    assert [str(trouble) for trouble in seen.troubles] == []
    served = [commit for commit in commits if any(release.startswith(commit) for release in seen.seen)]
    assert served == commits, "a release was never seen by a visitor"

"""Good releases under constant load: nobody notices."""

from __future__ import annotations

import pytest
from support import trial
from support.report import note
from support.site import APP, Site


@pytest.mark.parametrize("releases", [pytest.param(3, marks=pytest.mark.short), 50])
@pytest.mark.parametrize("server", ["gunicorn", "granian"])
def test_releases_under_load_lose_nothing(site: Site, server: str, releases: int) -> None:
    """The first release to granian is the change from gunicorn to it."""
    site.world.apps[APP]["server"] = server
    site.world.write()
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

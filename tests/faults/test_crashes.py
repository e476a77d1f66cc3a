"""The crash matrix: every step of a deploy, cut by every fault. A whole release serves; the same command ends well."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable

import pytest
from support import trial
from support.load import Tally
from support.points import POINTS, Ambush
from support.report import note
from support.site import APP, Site
from support.whole import settled
from support.world import Done, Running, until

from zarpar import lab

SLOWLY = {"build_seconds": 1.5, "migrate_seconds": 1.5, "health_seconds": 0.3, "ill_until": 1.5}
SHORT = {("gate", "controller killed"), ("linked", "zarpar-host killed"), ("migrate", "power cut")}


def _kill_controller(_site: Site, running: Running) -> Done | None:
    running.kill()
    return None


def _already_done(_site: Site, running: Running) -> Done | None:
    """The ambush itself has killed zarpar-host."""
    return running.wait()


def _cut_network(site: Site, running: Running) -> Done | None:
    """Both ways, until the controller has given up and the host has settled by itself."""
    lab.cut_network(site.host)
    try:
        done = running.wait()
        until(lambda: not _unconfirmed(site), 120, "the host settles while nobody can reach it")
    finally:
        lab.restore_network(site.host)
    return done


def _cut_power(site: Site, running: Running) -> Done | None:
    lab.power_cut(site.host)
    lab.start(site.host)
    return running.wait()


Fault = Callable[[Site, Running], Done | None]
FAULTS: dict[str, Fault] = {
    "controller killed": _kill_controller,
    "zarpar-host killed": _already_done,
    "network cut": _cut_network,
    "power cut": _cut_power,
}
HARMLESS = {"controller killed", "zarpar-host killed"}  # to visitors, who come by another way


@pytest.mark.parametrize(
    ("point", "fault"),
    [
        pytest.param(point, fault, marks=pytest.mark.short if (point, fault) in SHORT else ())
        for point in POINTS
        for fault in FAULTS
    ],
)
def test_crash(site: Site, point: str, fault: str) -> None:
    victim = "verb" if fault == "zarpar-host killed" else ""
    before, commit = site.serving(), _commit(site, f"{fault} at {point}")
    visitors = site.load() if fault in HARMLESS else contextlib.nullcontext(Tally())
    with Ambush(site.host, point, victim=victim) as ambush, visitors as seen:
        running = site.world.begin_deploy()
        ambush.wait()
        done = FAULTS[fault](site, running)
        begin = time.monotonic()
        release = settled(site)
        waited = time.monotonic() - begin
    assert release == before or release.startswith(commit)
    again = site.again()
    new = "new" if release.startswith(commit) else "old"
    code = done.code if done else "killed"
    note(f"{fault} at {point}: {code}; {new} release after {waited:.0f} s, again {again.seconds:.0f} s; {seen}")
    assert [str(trouble) for trouble in seen.troubles] == []


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("seed", range(5))
def test_crash_at_any_moment(site: Site, seed: int, fault: str) -> None:
    """As above, at a moment that nobody chose."""
    moment = random.Random(f"{fault} {seed}").uniform(0.3, 12)  # noqa: S311 - no secret
    before, commit = site.serving(), _commit(site, f"{fault} at {moment:.1f} s")
    victim = "verb" if fault == "zarpar-host killed" else ""
    running = site.world.begin_deploy()
    time.sleep(moment)
    if victim:
        with Ambush(site.host, "any", victim=victim) as ambush:
            ambush.wait()
    done = FAULTS[fault](site, running)
    release = settled(site)
    assert release == before or release.startswith(commit)
    again = site.again()
    note(f"{fault} after {moment:.1f} s: {done.code if done else 'killed'}; again {again.seconds:.0f} s")


@pytest.mark.parametrize("fault", ["watcher killed", "power cut"])
@pytest.mark.parametrize("point", ["confirmed", "draining"])
def test_crash_after_the_deploy(site: Site, point: str, fault: str) -> None:
    """While the new release is still watched, or the old one drains, nobody deploys any more."""
    commit = _commit(site, f"{fault} while {point}")
    with Ambush(site.host, point, victim="watcher" if fault == "watcher killed" else "") as ambush:
        running = site.world.begin_deploy()
        ambush.wait()
        if fault == "power cut":
            lab.power_cut(site.host)
            lab.start(site.host)
        running.wait()
    assert settled(site).startswith(commit)
    until(lambda: site.world.state(site.host, APP)["pending"] is None, 120, "the watch comes to its end")
    assert settled(site).startswith(commit)
    site.world.deploy()
    assert settled(site).startswith(commit)


def _commit(site: Site, subject: str) -> str:
    """A good release, with a migration of its own, that takes its time at each step."""
    trial.migration(site.app)
    trial.ballast(site.app, 4 * 2**20)
    commit = trial.plan(site.app, subject, **SLOWLY)
    site.base = commit  # an older tree would not know the schema
    return commit


def _unconfirmed(site: Site) -> bool:
    pending = site.world.state(site.host, APP)["pending"]
    return bool(pending and not pending["confirmed"])

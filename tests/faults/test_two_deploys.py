"""Several deploys at the same moment: one works, the others say whom they would have to wait for."""

from __future__ import annotations

import re
import threading

import pytest
from support import trial
from support.report import note
from support.site import APP, Site
from support.whole import check_whole
from support.world import Done, until

SIZES = (2, 3, 5, 8)
HOLDS = 120  # seconds that the winner's build lasts at most; it ends when all the others have been refused


@pytest.mark.parametrize("rounds", [pytest.param(2, marks=pytest.mark.short), 50])
def test_one_winner_each_round(site: Site, rounds: int) -> None:
    won = lost = 0
    for number in range(rounds):
        size = SIZES[number % len(SIZES)] if rounds > 2 else 2
        commits = [
            trial.plan(site.app, f"Round {number + 1}, deploy {one + 1}", build_seconds=HOLDS) for one in range(size)
        ]
        done = _at_once(site, commits)
        winners = [commit for commit, one in done.items() if one.code == 0]
        assert len(winners) == 1, "\n\n".join(map(str, done.values()))
        for commit, one in done.items():
            if commit != winners[0]:
                _refused(one, winners[0])
        assert site.serving().startswith(winners[0])
        check_whole(site)
        won, lost = won + 1, lost + size - 1
    note(f"deploys at once, {rounds} rounds: {won} winners, {lost} refused by name, 0 mixed states")


def test_a_deploy_can_wait_for_another(site: Site) -> None:
    first = trial.plan(site.app, "The first", build_seconds=10)
    second = trial.plan(site.app, "The second")
    running = site.world.begin_deploy("--ref", first)
    until(lambda: _is_held(site), 60, "the first deploy holds the app")
    waited = site.world.deploy("--ref", second, "--wait-lock", "120")
    done = running.wait()
    assert (done.code, waited.code) == (0, 0), f"{done}\n\n{waited}"
    assert site.serving().startswith(second)


@pytest.mark.short
def test_a_dead_deploy_frees_the_app_by_itself(site: Site) -> None:
    """Killed with all that it started, so that nobody gives the lock back."""
    commit = trial.plan(site.app, "Killed", build_seconds=20)
    running = site.world.begin_deploy()
    until(lambda: _is_held(site), 60, "the deploy holds the app")
    running.kill()
    done = site.world.deploy("--wait-lock", "120")
    note(f"after a killed deploy: the next one waited and worked for {done.seconds:.0f} s in all")
    assert done.code == 0, str(done)
    assert site.serving().startswith(commit)


def test_the_last_verb_of_a_dead_deploy_is_waited_for(site: Site) -> None:
    """On the host a build goes on without its controller, for longer than the lease and than anybody waits unasked."""
    trial.plan(site.app, "Killed while it is built", build_seconds=150)
    running = site.world.begin_deploy()
    until(lambda: site.on_host(*trial.BUILDING), 60, "the release is built")
    running.kill()
    commit = trial.plan(site.app, "After it")
    done = site.world.deploy("--wait-lock", "300")
    assert done.code == 0, str(done)
    assert site.serving().startswith(commit)


def _is_held(site: Site) -> bool:
    return site.world.succeeds_on(site.host, "test", "-s", f"/run/zarpar/{APP}.lease")


def _at_once(site: Site, commits: list[str]) -> dict[str, Done]:
    """Deploy all these commits at the same moment; every one refuses to wait."""
    done: dict[str, Done] = {}
    barrier = threading.Barrier(len(commits))

    def deploy(commit: str) -> None:
        barrier.wait()
        done[commit] = site.world.deploy("--ref", commit, "--wait-lock", "0")

    threads = [threading.Thread(target=deploy, args=(commit,)) for commit in commits]
    for thread in threads:
        thread.start()
    until(lambda: len(done) >= len(commits) - 1, HOLDS, "all but one are refused")
    site.on_host(*trial.BUILDING, "-delete")
    for thread in threads:
        thread.join()
    return done


def _refused(done: Done, winner: str) -> None:
    """It says who holds the app, from where, since when, and with which commit."""
    assert done.code == 1, str(done)
    said = re.search(rf"{APP} is being deployed by (\S+@\S+) \(since ([^,]+), commit ([0-9a-f]+)", done.err)
    assert said, str(done)
    assert said.group(3).startswith(winner), str(done)
    assert "next: " in done.err, str(done)

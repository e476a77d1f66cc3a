"""No Celery task is lost, whatever is done to its worker: releases that exchange it, and kill -9 at random moments.

The app is tests/apps/shop: `acks_late`, `reject_on_worker_lost`, and a task that writes its number into PostgreSQL
with INSERT ... ON CONFLICT DO NOTHING. A task may run twice then; that is counted and told.

Celery itself loses a task when its worker's main process is killed (-9) in the moment between taking it from Redis and
noting it there. The app queues such a task again by its own records: that is counted and told too, and there may be
one for each such kill, none for a release.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from support import samples
from support.report import note
from support.samples import Sample
from support.world import World, until

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
HOST, ADDRESS = f"tasks{WORKER}", f"10.77.0.{194 + int(WORKER)}"
DOMAIN = f"shop.tasks{WORKER}.example.test"
SECONDS = 0.5  # that a task takes; two workers do four at a time
# A task whose worker was killed is given out anew after 30 s (the app's visibility timeout) or a little more; one that
# Celery has lost is queued again after 150 s.
PATIENCE = 420
LISTING = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active,deactivating", "zarpar-shop.*@worker-*"]
KILL = """
import os, signal, subprocess, sys
shown = subprocess.run(["systemctl", "show", "-p", "MainPID", "--value", sys.argv[1]], capture_output=True, text=True)
main = int(shown.stdout)
children = subprocess.run(["pgrep", "-P", str(main)], capture_output=True, text=True).stdout.split()
victims = {"main": [main], "child": children[:1], "all": [main, *children]}[sys.argv[2]]
for pid in map(int, victims):
    os.kill(pid, signal.SIGKILL)
sys.exit(not main or not victims)
"""


@dataclass
class Shop:
    """A host with the shop on it."""

    world: World
    sample: Sample
    killed: Counter[str] = field(default_factory=Counter)

    def ask(self, path: str, *, post: object = None) -> tuple[int, str]:
        return self.world.visit(HOST, f"https://{DOMAIN}{path}", post=post, limit=60)

    def sent(self) -> set[int]:
        return set(samples.said(self.ask, "/parcels")["sent"])

    def runs(self) -> int:
        return int(samples.said(self.ask, "/parcels")["runs"])

    def queued_again(self) -> set[int]:
        return set(samples.said(self.ask, "/parcels")["again"])

    def kill(self, moment: float, chance: random.Random) -> None:
        """After a while, kill one of the workers that run or end then: its main process, a child, or all of it."""
        time.sleep(moment)
        kind = chance.choice(["main", "child", "all"])

        def hit() -> bool:
            units = sorted(line.split()[0] for line in self.world.run_on(HOST, *LISTING).splitlines() if line)
            return bool(units) and self.world.succeeds_on(HOST, "python3", "-c", KILL, chance.choice(units), kind)

        until(hit, 60, f"a worker to kill ({kind})")
        self.killed[kind] += 1


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The shop after its first deploy, with two workers."""
    hosts = {HOST: {"address": ADDRESS, "names": [DOMAIN]}}
    world = World(tmp_path_factory.mktemp(HOST), HOST, hosts, web=[HOST], db=[HOST])
    sample = samples.begin(world, "shop", ADDRESS, DOMAIN)
    samples.join(world, [sample])
    world.apps["shop"]["processes"] = {"worker": 2}
    world.write()
    world.up()
    done = world.deploy()
    assert done.code == 0, str(done)
    yield Shop(world, sample)
    world.remove()


@pytest.mark.parametrize(
    ("tasks", "releases", "kills"), [pytest.param(100, 2, 1, marks=pytest.mark.short), (1000, 10, 5)]
)
def test_no_task_is_lost(shop: Shop, tasks: int, releases: int, kills: int) -> None:
    """In each round tasks are queued, and a release is made while they are done; in some a worker is killed."""
    chance = random.Random(f"{tasks} tasks")  # noqa: S311 - no secret
    deadly = set(chance.sample(range(releases), kills))
    first, runs, each = max(shop.sent(), default=0) + 1, shop.runs(), tasks // releases
    shop.killed.clear()
    again = 0
    for number in range(releases):
        start = first + number * each
        wanted = {"first": start, "last": start + each - 1, "seconds": SECONDS}
        assert samples.said(shop.ask, "/parcels", wanted, status=202) == {"queued": each}
        shop.sample.app.commit(f"Release {number}", {"NEWS": f"{tasks} tasks, release {number}\n"})
        moment = chance.uniform(0, 14)
        with ThreadPoolExecutor(1) as other:
            killing = other.submit(shop.kill, moment, random.Random(moment)) if number in deadly else None  # noqa: S311
            again += _release(shop)
        if killing:
            killing.result()
    numbers = set(range(first, first + tasks))
    begin = time.monotonic()
    while (lost := sorted(numbers - shop.sent())) and time.monotonic() < begin + PATIENCE:
        time.sleep(1)
    twice = shop.runs() - runs - (tasks - len(lost))
    swept = shop.queued_again() & numbers
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(shop.killed.items()))
    note(
        f"{tasks} tasks, {releases} releases ({again} made anew after a kill), {kills} workers killed ({kinds}):"
        f" {len(lost)} lost, {len(swept)} queued again by the app, {twice} ran twice;"
        f" {time.monotonic() - begin:.0f} s until all were done"
    )
    assert shop.killed.total() == kills
    assert again <= kills, "a release failed that no kill had spoilt"
    assert lost == []
    assert len(swept) <= kills - shop.killed["child"], "more tasks were lost on the way than kills explain"


def _release(shop: Shop) -> int:
    """Deploy until the newest commit is live; return how often it had to be done again.

    A kill may hit a new worker before it has proved itself: then the old release and its workers go on, which is right,
    and the same command makes the release.
    """
    for again in range(4):
        done = shop.world.deploy()
        if done.code == 0 and shop.world.live(HOST, "shop").startswith(shop.sample.app.head()):
            return again
    raise AssertionError(str(done))

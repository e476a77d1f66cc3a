"""A worker on a host of its own: it comes to an environment that serves already, lives through what happens, and goes.

The app is tests/apps/shop: Celery, beat, PostgreSQL and Redis. Web server, database and Redis are on one host.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from support import samples
from support.samples import Sample
from support.world import World, until

from zarpar import lab

WEB, WORKER, DOMAIN = "apart1", "apart2", "shop.apart.example.test"
ADDRESSES = {WEB: "10.77.0.187", WORKER: "10.77.0.188"}
BREAKS = "\nimport os, sys\nif 'celery' in sys.argv[0]:\n    raise RuntimeError('no worker of this release runs')\n"


@dataclass
class Apart:
    world: World
    sample: Sample

    def ask(self, path: str, *, post: object = None) -> tuple[int, str]:
        return self.world.visit(WEB, f"https://{DOMAIN}{path}", post=post, limit=30)

    def live(self, host: str) -> str:
        return self.world.live(host, "shop")

    def processes(self, host: str) -> set[str]:
        """The processes of the app that run on a host, without their slot."""
        listed = self.world.run_on(
            host, "systemctl", "list-units", "--plain", "--no-legend", "--state=active,activating,deactivating",
            "zarpar-shop.*@*.service",
        )  # fmt: skip
        return {line.split()[0].partition("@")[2].removesuffix(".service") for line in listed.splitlines() if line}

    def serves(self, host: str) -> bool:
        """Whether a web server of the app runs on a host."""
        return bool(self.world.run_on(host, "pgrep", "--full", "/bin/gunicorn", check=False).strip())

    def works(self) -> None:
        """Visitors, workers and beat are all of the release that both hosts call live."""
        release = self.live(WEB)
        samples.check_shop(self.ask, release)

    def deploy(self, *words: str) -> None:
        done = self.world.deploy(*words)
        assert done.code == 0, str(done)


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    """Both hosts, after a deploy to an inventory that has no worker yet."""
    hosts = {
        WEB: {"address": ADDRESSES[WEB], "names": [DOMAIN]},
        WORKER: {"address": ADDRESSES[WORKER], "debian": 12},
    }
    world = World(tmp_path_factory.mktemp("apart"), "apart", hosts, web=[WEB], db=[WEB])
    sample = samples.begin(world, "shop", ADDRESSES[WEB], DOMAIN)
    samples.join(world, [sample])
    world.apps["shop"] |= {"database_password": secrets.token_hex(8), "redis_password": secrets.token_hex(8)}
    world.groups = {"redis": [WEB], "worker": [WORKER]}
    world.write()
    world.up()
    world.groups = {"redis": [WEB]}
    world.write()
    found = Apart(world, sample)
    found.deploy()
    found.works()
    yield found
    world.groups = {"redis": [WEB], "worker": [WORKER]}  # both are removed
    world.write()
    world.remove()


def test_a_worker_is_added_to_what_serves(apart: Apart) -> None:
    """With the same commit: the processes move, and a task that waits meanwhile is done."""
    assert apart.processes(WEB) == {"worker-1", "beat-1"}
    before = apart.live(WEB)
    apart.world.groups["worker"] = [WORKER]
    apart.world.write()
    queued = samples.said(apart.ask, "/parcels", {"first": 1, "last": 40, "seconds": 0.5}, status=202)
    apart.deploy()
    assert apart.live(WEB).startswith(before.partition("-")[0]), "the same commit"
    assert apart.live(WEB) == apart.live(WORKER)
    until(lambda: not apart.processes(WEB), 120, "the web server's processes end")
    assert apart.processes(WORKER) == {"worker-1", "beat-1"}
    assert not apart.serves(WORKER)
    assert not apart.world.succeeds_on(WORKER, "test", "-e", "/etc/nginx")
    apart.works()
    numbers = list(range(1, queued["queued"] + 1))
    until(lambda: samples.said(apart.ask, "/parcels")["sent"] == numbers, 120, "all parcels are sent")


def test_again_there_is_nothing_to_do(apart: Apart) -> None:
    done = apart.world.deploy()
    assert "nothing to do" in done.err, str(done)


def test_a_release_reaches_the_worker_first(apart: Apart) -> None:
    commit = apart.sample.app.commit("The second", {"NEWS": "Something is new.\n"})
    apart.deploy()
    assert apart.live(WEB) == apart.live(WORKER)
    assert apart.live(WEB).startswith(commit)
    apart.works()
    when = {}
    for host in (WEB, WORKER):
        done = [event for event in apart.world.events(host, "shop") if event["event"] == "activated"]
        when[host] = done[-1]["at"]
    assert when[WORKER] < when[WEB]


def test_commands_reach_the_worker(apart: Apart) -> None:
    status = json.loads(apart.world.zarpar("status", "--json").out)
    assert WORKER in json.dumps(status)
    done = apart.world.zarpar("logs", "--process", "worker", "--lines", "50")
    assert WORKER in done.out, str(done)
    assert "celery@" in done.out
    told = "import os, socket; print(socket.gethostname(), os.environ['ZARPAR_RELEASE_ID'])"
    done = apart.world.zarpar("run", "--host", WORKER, "--", "python", "-c", told)
    assert done.out.split() == [WORKER, apart.live(WORKER)], str(done)
    done = apart.world.zarpar("verify")
    assert done.code == 0, str(done)


def test_a_release_whose_worker_does_not_run_gets_no_visitor(apart: Apart) -> None:
    before = apart.live(WEB)
    text = (apart.sample.app.folder / "worker.py").read_text()
    apart.sample.app.commit("Breaks", {"worker.py": text + BREAKS})
    done = apart.world.deploy()
    assert done.code == 1, str(done)
    assert "no worker of this release runs" in done.err, str(done)
    assert (apart.live(WEB), apart.live(WORKER)) == (before, before)
    assert apart.processes(WORKER) == {"worker-1", "beat-1"}
    apart.works()
    apart.sample.app.commit("Mended", {"worker.py": text})
    apart.deploy()
    apart.works()


def test_a_worker_comes_back_from_a_reboot_and_a_cut(apart: Apart) -> None:
    """Once while nothing goes on, once while a release is made."""
    before = apart.live(WORKER)
    lab.reboot(WORKER)
    until(lambda: apart.processes(WORKER) == {"worker-1", "beat-1"}, 90, "worker and beat are there again")
    assert apart.live(WORKER) == before
    apart.works()
    commit = apart.sample.app.commit("Cut", {"NEWS": "Cut.\n"})
    running = apart.world.begin_deploy()
    until(lambda: apart.world.state(WORKER, "shop")["pending"], 120, "the worker is switched")
    lab.reboot(WORKER)
    running.wait()
    until(lambda: apart.processes(WORKER) == {"worker-1", "beat-1"}, 90, "worker and beat are there again")
    live = apart.live(WORKER)
    assert live == before or live.startswith(commit)
    apart.deploy("--wait-lock", "120")
    assert apart.live(WEB) == apart.live(WORKER)
    assert apart.live(WEB).startswith(commit)
    apart.works()


def test_a_rollback_takes_both_back(apart: Apart) -> None:
    now = apart.live(WEB)
    done = apart.world.zarpar("rollback")
    assert done.code == 0, str(done)
    assert apart.live(WEB) == apart.live(WORKER) != now
    apart.works()


def test_without_the_group_the_web_server_runs_them_again(apart: Apart) -> None:
    """As docs/APPS.md tells it: the host that leaves is stopped first."""
    slot_units = ("zarpar-shop.*@*", "zarpar-shop@*")
    apart.world.run_on(WORKER, "systemctl", "stop", *slot_units)
    apart.world.run_on(WORKER, "rm", "/var/lib/zarpar/apps/shop/state.json")
    del apart.world.groups["worker"]
    apart.world.write()
    apart.deploy()
    assert apart.processes(WEB) == {"worker-1", "beat-1"}
    apart.works()
    lab.reboot(WORKER)
    until(lambda: apart.world.succeeds_on(WORKER, "systemctl", "is-system-running", "--wait"), 90, "it is up")
    assert apart.processes(WORKER) == set()

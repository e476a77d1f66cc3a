"""More of it: a release to many hosts, and doing nothing with many hosts or many apps. Zarpar only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench import end_state
from bench.app import ROOT
from bench.contenders.base import APP, VALUES
from bench.contenders.zarpar import Zarpar, describe_app, write_inventory
from bench.lab import MOST_HOSTS, NAME, Lab
from bench.process import CommandFailed, Cost, run
from bench.results import Results, Sample

Say = Callable[[str], None]
FLEETS = (1, 5, 10)
GROWTH_HOSTS = (1, 10, MOST_HOSTS)
DATABASE_HOST = f"{NAME}{max(FLEETS) + 1}"
GROWTH_APPS = (1, 10, 50)
CONNECTIONS = 500  # to PostgreSQL: 50 apps have two workers of two threads each, twice while a release is switched


class FleetApp(Zarpar):
    """`./scripts/deploy INVENTORY` with several web servers."""

    name = "fleet"

    def aim_at(self, hosts: Sequence[str], apps: int = 1, database: str = "") -> None:
        """Let the next command be about these web servers and so many apps, all of the same source.

        database: the host of their common database; each has its own without.
        """
        names = [APP, *(f"app{number}" for number in range(2, apps + 1))]
        described = {
            name: describe_app(self.app.folder)
            if name == APP
            else describe_app(self.app.folder, f"{name}.example.test")
            for name in names
        }
        common = self.lab.line(database, 0) if database else None
        for app in described.values() if database else ():
            app["database_password"] = VALUES["database_password"]
        lines = [self.lab.line(host, 0) for host in hosts]
        write_inventory(self.inventory, lines, described, common, postgres_max_connections=CONNECTIONS)


class Fleet:
    """The measurements that need many hosts."""

    def __init__(self, lab: Lab, rounds: int, say: Say, results: Results) -> None:
        self.lab, self.rounds, self.say, self.results = lab, rounds, say, results
        self._app: FleetApp | None = None
        self._changes = 0

    def fleet(self) -> None:
        """A code-only release, server after server, on 1, 5 and 10 hosts."""
        app = self._prepared(self._hosts(max(FLEETS)), DATABASE_HOST)
        for number in range(self.rounds):
            for size in FLEETS:
                hosts = self._hosts(size)
                app.aim_at(hosts, database=DATABASE_HOST)
                self._demand(self._run(app))  # the database learns who may ask it
                self._changes += 1
                commit = app.app.change_code(self._changes)
                self._measure(app, f"fleet-{size}", number, hosts, commit)

    def growth(self) -> None:
        """Nothing to do on 1, 10 and more hosts, and with 1, 10 and 50 apps on one host."""
        app = self._prepared(self._hosts(max(GROWTH_HOSTS)))
        commit = app.app.head()
        for number in range(self.rounds):
            for size in GROWTH_HOSTS:
                hosts = self._hosts(size)
                app.aim_at(hosts)
                self._measure(app, f"growth-hosts-{size}", number, hosts, commit)
        self.lab.remove(self._hosts(max(GROWTH_HOSTS))[1:])
        hosts = self._hosts(1)
        for apps in GROWTH_APPS:
            app.aim_at(hosts, apps)
            self._demand(self._run(app))
            for number in range(self.rounds):
                self._measure(app, f"growth-apps-{apps}", number, hosts, commit)

    def _hosts(self, count: int) -> list[str]:
        return [f"{NAME}{number}" for number in range(1, count + 1)]

    def _prepared(self, hosts: Sequence[str], database: str = "") -> FleetApp:
        """Provision bare hosts and release the app on them."""
        self.say(f"preparing {len(hosts)} hosts")
        self.lab.make([*hosts, *([database] if database else [])])
        self._app = self._app or FleetApp(self.lab, hosts[0])
        self._app.aim_at(hosts, database=database)
        self._demand(self._run(self._app))
        return self._app

    def _run(self, app: FleetApp) -> Cost:
        log = Path(app.folder / "deploy.log")
        cost = run(app.command("deploy"), cwd=ROOT, environment=app.environment(), log=log)
        self.lab.close_connections()
        return cost

    @staticmethod
    def _demand(cost: Cost) -> None:
        if cost.code != 0:
            raise CommandFailed(str(cost))

    def _measure(self, app: FleetApp, phase: str, number: int, hosts: Sequence[str], commit: str) -> None:
        for host in hosts:  # nobody deploys while the last release is still watched
            end_state.wait_for_calm(self.lab, host)
        cost = self._run(app)
        problem = "" if cost.code == 0 else f"exit code {cost.code}: {cost.text.strip()[-600:]}"
        served = [end_state.served_release(self.lab.address(host)) for host in hosts] if not problem else []
        if not all(release.startswith(commit) for release in served):
            problem = f"not all hosts serve {commit}: {served}"
        changed = app.changed(cost.text)
        sample = Sample(phase, "zarpar", 0, number, cost.seconds, cost.cpu, cost.peak_mb, changed, problem)
        self.results.add(sample)
        self.say(f"{phase:16} round {number + 1}  {cost.seconds:7.2f} s{'  FAILED: ' + problem if problem else ''}")

"""What visitors get: requests a second, how long they wait, memory; and what a release costs them.

The load comes from `wrk` inside the host, so it shares the processors with what it measures, as all contenders do.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contenders.base import APP, DOMAIN
from bench.contenders.shell import Shell
from bench.contenders.zarpar import ZarparRelease, describe_app, write_inventory
from bench.end_state import ask, wait_for_calm
from bench.lab import NAME, Lab, Line
from bench.process import CommandFailed, run
from bench.results import Results
from bench.visitors import Visit, Visitors

GRANIAN = "granian"  # the app that is the same, but for its server
FILES = Path(__file__).parent / "served_files"
SERVED_HOST, METHODS_HOST = f"{NAME}11", f"{NAME}12"
SECONDS = 5  # of each run of wrk
CONNECTIONS = 32
CALM = 6.0  # seconds of visitors without a release
UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class ServedApp(ZarparRelease):
    """The app that Zarpar serves, with the addresses for load; and, if `twice`, once more by granian."""

    name = "served"
    hello = True
    twice = False

    def aim(self, line: Line) -> None:
        apps = {APP: describe_app(self.app.folder)}
        if self.twice:
            apps[GRANIAN] = {**describe_app(self.app.folder, f"{GRANIAN}.example.test"), "server": "granian"}
        write_inventory(self.inventory, [line], apps)


class Methods(Shell):
    """The app of the shell script, with the addresses for load."""

    name = "methods"
    hello = True


@dataclass(frozen=True)
class Configuration:
    """One way to serve the app on the same host: its unit, and the port at which it is asked."""

    name: str
    unit: str
    port: int = 80
    domain: str = DOMAIN


class Served:
    """Both measurements on hosts of their own."""

    def __init__(self, lab: Lab, rounds: int, say: Callable[[str], None], results: Results) -> None:
        self.lab, self.rounds, self.say, self.results = lab, rounds, say, results
        self._zarpar: ServedApp | None = None

    # -- calm ----------------------------------------------------------------------------------------------------

    def served(self) -> None:
        """Requests a second for a small dynamic answer, one with a query, and a static file; then the memory."""
        app = self._served_app()
        app.twice = True
        self._deploy(app, "deploy")
        app.twice = False
        slot, of_granian = (
            self._inside("readlink", f"/srv/{each}/live").strip().rpartition("/")[2] for each in (APP, GRANIAN)
        )
        self._inside("tee", "/etc/lesson.conf.py", stdin=(FILES / "lesson.conf.py").read_text())
        site = (FILES / "lesson-site.conf").read_text()
        self._inside("tee", "/etc/nginx/sites-enabled/lesson.conf", stdin=site)
        self._script("setup.sh", slot)
        ours = f"zarpar-{APP}@{slot}.service"
        every = [
            Configuration("lesson", "lesson.service", 8081),
            Configuration("zarpar", ours),
            Configuration("gunicorn alone", "lesson.service", 8000),
            Configuration("granian", f"zarpar-{GRANIAN}@{of_granian}.service", domain=f"{GRANIAN}.example.test"),
        ]
        wait_for_calm(self.lab, SERVED_HOST)
        for number in range(self.rounds):
            for configuration in every:
                for unit in {each.unit for each in every} - {configuration.unit}:
                    self._inside("systemctl", "stop", unit)
                self._inside("systemctl", "restart", configuration.unit)
                time.sleep(3)
                self._load(configuration, number)
        self._inside("systemctl", "stop", *(each.unit for each in every))
        self._inside("systemctl", "start", ours)
        self.say(f"served: {app.lab.address(SERVED_HOST)} serves by Zarpar again")

    def _load(self, configuration: Configuration, number: int) -> None:
        paths = {"dynamic": "/hello", "database": "/health", "static": "/static/notes.css"}
        for what, path in paths.items():
            url = f"http://127.0.0.1:{configuration.port}{path}"
            wrk = ["wrk", "-t2", f"-c{CONNECTIONS}", "--latency", "-H", f"Host: {configuration.domain}"]
            self._inside(*wrk, "-d1s", url)
            text = self._inside(*wrk, f"-d{SECONDS}s", url)
            if "Non-2xx" in text:
                raise CommandFailed(f"{configuration.name} {url}: {text}")
            for name, value in read_wrk(text).items():
                self._note(configuration.name, f"{what} {name}", value)
        memory = int(self._script("memory.sh", configuration.unit)) / 1024
        self._note(configuration.name, "memory MB", memory)
        self.say(f"served        round {number + 1}  {configuration.name:15} {memory:.0f} MB")

    # -- during a release ----------------------------------------------------------------------------------------

    def switch(self) -> None:
        """Steady visitors while a release is switched: by Zarpar, and by the three usual ways."""
        zarpar = self._served_app()
        methods = Methods(self.lab, METHODS_HOST)
        self.lab.make([METHODS_HOST])
        self._deploy(methods, "deploy")
        for number in range(self.rounds):
            self._switch("zarpar", SERVED_HOST, number, lambda: self._release(zarpar))
            for method in ("restart", "HUP", "socket"):
                self._script("method.sh", method, host=METHODS_HOST)
                mark = f"{method}-{number}"
                self._switch(method, METHODS_HOST, number, lambda: self._switch_by(method, mark))  # noqa: B023

    def _switch(self, name: str, host: str, number: int, release: Callable[[], str]) -> None:
        """Measure calm visitors, then visitors during one release, which returns the text that all see then."""
        time.sleep(2)
        address = self.lab.address(host)
        visitors = Visitors(address, 80, DOMAIN)
        time.sleep(CALM)
        calm = visitors.end()
        visitors = Visitors(address, 80, DOMAIN)
        time.sleep(2)
        try:
            mark = release()
            self._wait_for(address, mark)
        except CommandFailed as error:
            self.results.notes.append(f"switch by {name}, round {number + 1}: {error}")
            self.say(self.results.notes[-1])
        finally:
            visit = visitors.end()
        for what, value in describe(calm, visit).items():
            self._note(name, what, value)
        self.say(
            f"switch        round {number + 1}  {name:15} {visit.lost} of {visit.requests} lost,"
            f" longest {visit.longest:.0f} ms (calm p99 {calm.p99:.0f} ms)"
        )

    @staticmethod
    def _wait_for(address: str, mark: str) -> None:
        """Until all of ten visitors in a row see the new release, and then a little longer."""
        deadline = time.monotonic() + 60
        seen = 0
        while seen < 10:
            if time.monotonic() > deadline:
                raise CommandFailed(f"visitors do not see {mark}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                seen = seen + 1 if ask(address, "/hello").body.decode() == mark else 0
            time.sleep(0.05)
        time.sleep(1)

    def _release(self, app: ServedApp) -> str:
        number = time.monotonic_ns()
        app.app.change_code(number)
        self._deploy(app, "release")
        return f"change {number}"

    def _switch_by(self, method: str, mark: str) -> str:
        self._script("switch.sh", method, mark, host=METHODS_HOST)
        return mark

    # -- parts ---------------------------------------------------------------------------------------------------

    def _served_app(self) -> ServedApp:
        """The app on its host, released by Zarpar; made at the first call."""
        self._zarpar = self._zarpar or ServedApp(self.lab, SERVED_HOST)
        if not self.lab.has(SERVED_HOST):
            self.say("preparing a host for visitors")
            self.lab.make([SERVED_HOST])
            self._deploy(self._zarpar, "deploy")
        return self._zarpar

    def _deploy(self, contender: ServedApp | Methods, verb: str) -> None:
        contender.aim(self.lab.line(contender.host, 0))
        log = contender.folder / "deploy.log"
        done = run(contender.command(verb), cwd=contender.directory, environment=contender.environment(), log=log)
        self.lab.close_connections()
        if done.code != 0:
            raise CommandFailed(str(done))

    def _inside(self, *argv: str, stdin: str = "") -> str:
        return self.lab.inside(SERVED_HOST, *argv, stdin=stdin)

    def _script(self, name: str, *words: str, host: str = SERVED_HOST) -> str:
        return self.lab.inside(host, "bash", "-s", "--", *words, stdin=(FILES / name).read_text())

    def _note(self, configuration: str, what: str, value: float) -> None:
        entry: dict[str, Any] = {"configuration": configuration, "what": what, "value": value}
        self.results.served.append(entry)


def read_wrk(text: str) -> dict[str, float]:
    """Requests a second, and p50 and p99 in milliseconds, from what wrk prints."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    found = dict(re.findall(r"^\s+(50|99)%\s+([\d.]+(?:us|ms|s))\s*$", text, re.MULTILINE))
    if not rate or set(found) != {"50", "99"}:
        raise ValueError(f"not what wrk prints: {text}")
    return {"requests/s": float(rate[1]), **{f"p{share} ms": _milliseconds(found[share]) for share in ("50", "99")}}


def _milliseconds(text: str) -> float:
    number = text.rstrip("mus")
    return float(number) * UNITS[text[len(number) :]]


def describe(calm: Visit, visit: Visit) -> dict[str, float]:
    """What a release cost its visitors."""
    return {
        "calm p99 ms": calm.p99,
        "p99 ms in a release": visit.p99,
        "longest ms in a release": visit.longest,
        "lost in a release": float(visit.lost),
        "requests in a release": float(visit.requests),
    }

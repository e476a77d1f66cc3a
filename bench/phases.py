"""The phases of a deploy, measured in turn: A B C, A B C, ... so that a slow minute hits everybody alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from bench import end_state
from bench.app import EXTRA_VERSIONS
from bench.contenders.base import PACKAGES, Contender
from bench.lab import Lab
from bench.process import CommandFailed, run
from bench.results import Results, Sample

Say = Callable[[str], None]


@dataclass
class Bench:
    """One run: the lab, the contenders with their hosts, and what was measured so far."""

    lab: Lab
    contenders: Sequence[Contender]
    rounds: int
    delays: Sequence[int]
    say: Say
    results: Results = field(default_factory=Results)
    changes: int = 0
    dropped: set[str] = field(default_factory=set)  # contenders that could not even be prepared
    serving: set[str] = field(default_factory=set)  # contenders that deployed to their hosts with success
    versions: Iterator[str] = field(default_factory=lambda: iter(EXTRA_VERSIONS))

    def __post_init__(self) -> None:
        (self.lab.folder / "logs").mkdir(exist_ok=True)
        self.locks.mkdir(exist_ok=True)

    @property
    def locks(self) -> Path:
        return self.lab.folder / "locks"

    # -- phases --------------------------------------------------------------------------------------------------

    def fresh(self) -> None:
        """From a bare host to a served site; only without delay, because it is bound by the host."""
        for number in range(self.rounds):
            for contender in self.contenders:
                if "deploy" in contender.verbs:
                    self._bare(contender)
                    self._measure(contender, "fresh", "deploy", 0, number, whole=True)

    def nothing(self) -> None:
        """Everything is there already."""
        self._prepare(self._all_served("deploy"), "deploy")
        for delay, number in self._turns():
            for contender in self._all_served("deploy"):
                self._measure(contender, "nothing", "deploy", delay, number)

    def release(self) -> None:
        """The next commit, which changes code only."""
        for delay, number in self._turns():
            for contender in self._all_served("release"):
                self._next_commit(contender)
                self._measure(contender, "release", "release", delay, number)

    def dependencies(self) -> None:
        """The next commit changes the locked dependencies too."""
        for delay, number in self._turns():
            version = next(self.versions)
            for contender in self._all_served("release"):
                contender.app.change_dependencies(version, self.locks)
                self._measure(contender, "dependencies", "release", delay, number)

    def rollback(self) -> None:
        """Back to the release before, right after the new one was released."""
        for delay, number in self._turns():
            for contender in self._all_served("rollback"):
                self._prepare([contender], "release")
                before = contender.app.head()
                self._next_commit(contender)
                self._prepare([contender], "release")
                self._measure(contender, "rollback", "rollback", delay, number, commit=before)

    def wrapper(self) -> None:
        """The wrapper beside bare ansible-playbook, nothing to do, in pairs."""
        pair = [each for each in self._all_served("deploy") if each.name in ("zarpar", "zarpar-ansible")]
        self._prepare(pair, "deploy")
        for number in range(2 * self.rounds):
            for contender in pair:
                self._measure(contender, "wrapper", "deploy", 0, number)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _turns(self) -> Iterator[tuple[int, int]]:
        for number in range(self.rounds):
            for delay in self.delays:
                yield delay, number

    def _all_served(self, verb: str) -> list[Contender]:
        """The contenders that can do this, each with a host that serves."""
        for contender in self.contenders:
            serves = contender.name in self.serving and self.lab.has(contender.host)
            if contender.name not in self.dropped and not serves:
                self.say(f"preparing {contender.name}")
                try:
                    self._bare(contender)
                    contender.aim(self.lab.line(contender.host, 0))
                    contender.provision()
                    self._unmeasured(contender, contender.first)
                except CommandFailed as error:
                    self._drop(contender, str(error))
        return [each for each in self.contenders if verb in each.verbs and each.name not in self.dropped]

    def _prepare(self, contenders: Sequence[Contender], verb: str) -> None:
        """Run a command of each that is not measured."""
        for contender in contenders:
            try:
                self._unmeasured(contender, verb)
            except CommandFailed as error:
                self._drop(contender, str(error))

    def _drop(self, contender: Contender, problem: str) -> None:
        """Go on without a contender, and say why."""
        self.dropped.add(contender.name)
        self.results.notes.append(f"{contender.name} is not measured any further: {problem[-1500:]}")
        self.say(self.results.notes[-1])

    def _bare(self, contender: Contender) -> None:
        """Make a bare host with the packages downloaded but not installed: the mirror's speed is nobody's merit."""
        self.serving.discard(contender.name)
        self.lab.make([contender.host])
        archives, store = "/var/cache/apt/archives", self.lab.folder / "archives"
        if not store.exists():
            self.say("downloading packages")
            self.lab.inside(contender.host, "apt-get", "-qq", "update")
            keep = ["-o", "APT::Keep-Downloaded-Packages=true", "-o", f"Dir::Cache::archives={archives}"]
            options = ["--download-only", "--no-install-recommends", "--yes", *keep]
            self.lab.inside(contender.host, "apt-get", "-qq", "install", *options, *PACKAGES)
            self.lab.copy_out(contender.host, archives, store)
            self.lab.make([contender.host])
        self.lab.copy_in(Path(f"{store}/."), contender.host, archives)
        # The lists of packages are missing, and the image is new: to Ansible's apt that looks like lists of today.
        self.lab.inside(contender.host, "touch", "--date=2 days ago", "/var/lib/apt/lists")

    def _next_commit(self, contender: Contender) -> None:
        self.changes += 1
        contender.app.change_code(self.changes)

    def _unmeasured(self, contender: Contender, verb: str) -> None:
        """Run a command that only prepares; it has to succeed."""
        contender.aim(self.lab.line(contender.host, 0))
        log = self.lab.folder / "logs" / f"{contender.name}-preparation.log"
        done = run(contender.command(verb), cwd=contender.directory, environment=contender.environment(), log=log)
        self.lab.close_connections()
        if done.code != 0:
            raise CommandFailed(str(done))
        self.serving.add(contender.name)

    def _measure(
        self,
        contender: Contender,
        phase: str,
        verb: str,
        delay: int,
        number: int,
        *,
        commit: str = "",
        whole: bool = False,
    ) -> None:
        """Run one command, look at what it reached, and note down what it cost."""
        contender.aim(self.lab.line(contender.host, delay))
        self.lab.close_connections()
        log = self.lab.folder / "logs" / f"{phase}-{contender.name}-{delay}-{number}.log"
        cost = run(contender.command(verb), cwd=contender.directory, environment=contender.environment(), log=log)
        self.lab.close_connections()
        problem = "" if cost.code == 0 else f"exit code {cost.code}: {cost.text.strip()[-600:]}"
        if not problem:
            try:
                look = end_state.check if whole else end_state.check_release
                look(contender, commit or contender.app.head())
            except (AssertionError, CommandFailed, HTTPException, KeyError, OSError, ValueError) as error:
                problem = f"{type(error).__name__}: {error}"
        if not problem:
            self.serving.add(contender.name)
        changed = contender.changed(cost.text)
        self.results.add(
            Sample(phase, contender.name, delay, number, cost.seconds, cost.cpu, cost.peak_mb, changed, problem)
        )
        told = "" if changed is None else f", {changed} changed"
        self.say(
            f"{phase:13} {delay:3} ms  round {number + 1}  {contender.name:15} {cost.seconds:7.2f} s"
            f"  (cpu {cost.cpu:.1f} s, {cost.peak_mb:.0f} MB{told}){'  FAILED: ' + problem if problem else ''}"
        )

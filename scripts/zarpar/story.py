"""What happened in a run, told from ansible-runner's events (plain dicts), and what it comes to.

Pure: `Story.feed` takes an event and returns what there is to say about it; `ui` says it, `cli` asks for the
exit code. Results of Zarpar's own plugins carry a key `zarpar`; those of any other task are understood too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from zarpar.diagnosis import Failure, diagnose, explain, own_part, plain, without_tags
from zarpar.errors import Exit

SERVING = frozenset({"active", "unchanged"})
ON_THE_WAY = frozenset({"prepared", "migrated"})
REFUSALS = frozenset({"bad_data", "source", "unsupported", "no_sudo", "disk"})
ANSIBLE_INTERRUPTED = 99


@dataclass(frozen=True)
class Header:
    """A play begins to do something."""

    title: str


@dataclass(frozen=True)
class Step:
    """A role (or a play's own tasks: then `role` is empty) is through on a host."""

    host: str
    play: str
    role: str
    seconds: float
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Release:
    """How far a release of an app got on a host."""

    host: str
    app: str
    release: str = ""
    outcome: str = ""
    seconds: float = 0.0
    url: str = ""
    commit: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Repeated:
    """Another host failed in the very same way."""

    host: str


@dataclass(frozen=True)
class Warned:
    """Something that a person should know, and that stops nothing."""

    text: str


@dataclass(frozen=True)
class Output:
    """Ansible's own words."""

    text: str


Moment = Header | Step | Release | Failure | Repeated | Warned | Output


@dataclass
class Tally:
    """What one host has gone through of the current role."""

    seconds: float = 0.0
    changed: list[str] = field(default_factory=list)


class Story:
    """The state of one run: feed it every event in order, then close it."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.failures: list[Failure] = []
        self.warnings: list[str] = []
        self.statuses: dict[str, Mapping[str, Any]] = {}  # host: what zarpar-host says of itself
        self.working: dict[str, str] = {}  # host: what it is busy with
        self.interrupted = False
        self.undo = ""  # the deploy to take back when this run fails; empty: what is switched stays
        self._releases: dict[tuple[str, str], Release] = {}
        self._return_code: int | None = None
        self._play = self._role = self._headed = ""
        self._tallies: dict[str, Tally] = {}
        self._stats: dict[str, dict[str, int]] = {}
        self._said: deque[str] = deque(maxlen=200)

    def feed(self, event: Mapping[str, Any]) -> list[Moment]:
        """Take in one event; return what there is to say about it, in order."""
        text = without_tags(plain(str(event.get("stdout") or ""))).strip("\n")
        output: list[Moment] = [Output(text)] if text else []
        if event.get("event") in ("verbose", "error"):
            self._said.extend(text.splitlines())
        name = str(event.get("event"))
        told = _TELLERS[name](self, event.get("event_data") or {}, text) if name in _TELLERS else []
        return output + told if name.startswith("runner_") else told + output

    def doing(self) -> str:
        """Say in a few words what is going on now."""
        busy = [f"{host} {what}" for host, what in sorted(self.working.copy().items())]
        more = f" and {len(busy) - 2} more" if len(busy) > 2 else ""
        return ", ".join(busy[:2]) + more or self._play or "starting"

    def close(self, return_code: int | None, *, interrupted: bool = False) -> list[Moment]:
        """End the story; return the failure that no task told of, such as a playbook that does not load."""
        moments = self._finish_role()
        self._return_code = return_code
        self.interrupted = interrupted or return_code == ANSIBLE_INTERRUPTED
        self.failures = [failure for failure in self.failures if self._stands(failure)]
        if self.failures or self.interrupted or (return_code == 0 and self.hosts):
            return moments
        if return_code == 0:
            self.failures = [Failure("", "", "bad_data", "no host of the inventory is meant")]
        else:
            self.failures = [explain("\n".join(self._said), "failed" if self.steps else "bad_data")]
        return [*moments, *self.failures]

    @property
    def hosts(self) -> list[str]:
        """Return every host that took part, by name."""
        return sorted(self._stats.get("processed") or {step.host for step in self.steps})

    @property
    def changes(self) -> int:
        """Return how many changes were made (in check mode: would be made)."""
        told = sum(len(step.changed) for step in self.steps)
        return max(told, sum(self._stats.get("changed", {}).values()))

    @property
    def nothing_to_do(self) -> bool:
        """Tell whether everything was as it should be already."""
        return not self.changes and {release.outcome for release in self.releases} <= {"unchanged", ""}

    @property
    def releases(self) -> list[Release]:
        """Return one release per host and app; what was on its way when the run failed is not active."""
        found = [self._releases[key] for key in sorted(self._releases)]
        if self._return_code == 0:
            return found
        return [replace(one, outcome="not_activated") if one.outcome in ON_THE_WAY else one for one in found]

    def exit_code(self) -> Exit:
        """Say in one number how the run ended."""
        kinds = {failure.kind for failure in self.failures}
        if self.interrupted:
            return Exit.INTERRUPTED
        if not kinds:
            return Exit.OK
        if self._partial():
            return Exit.PARTIAL
        if kinds <= REFUSALS and not self.changes:
            return Exit.REFUSED
        return Exit.UNREACHABLE if kinds == {"unreachable"} else Exit.FAILED

    @property
    def wants_undo(self) -> bool:
        """Tell whether this run failed after it had switched something that is to be taken back."""
        switched = any(release.outcome == "active" for release in self.releases)
        return bool(self.undo and self.failures and switched and not self.interrupted)

    def undone(self, undo: Story) -> None:
        """Take in the story of the undo that followed this run: what it switched back is rolled back here."""
        for one in undo.releases:
            mine = self._releases.get((one.host, one.app))
            if mine and one.outcome == "active":
                self._releases[one.host, one.app] = replace(mine, outcome="rolled_back")
        self.failures += undo.failures

    def as_dict(self) -> dict[str, Any]:
        """Return the whole story for --json."""
        steps = [asdict(step) for step in self.steps]
        return {
            "changes": self.changes,
            "hosts": {host: [step for step in steps if step["host"] == host] for host in self.hosts},
            "releases": [asdict(release) for release in self.releases],
            "failures": [asdict(failure) for failure in self.failures],
            "warnings": self.warnings,
        }

    def _partial(self) -> bool:
        """Tell whether a release serves on some hosts and not on others (anything else stops on all at once)."""
        releases = self.releases
        served = {release.app for release in releases if release.outcome in SERVING}
        return any(release.outcome == "active" for release in releases) or any(
            release.app in served for release in releases if release.outcome not in SERVING
        )

    def _stands(self, failure: Failure) -> bool:
        """Tell whether a failure still counts at the end: one that a playbook rescued does not."""
        counts = [self._stats.get(kind, {}).get(failure.host) for kind in ("failures", "dark")]
        return not self._stats or any(counts)

    def _on_play(self, data: Mapping[str, Any], _text: str) -> list[Moment]:
        moments = self._finish_role()
        self._play, self._role = str(data.get("name", "")), ""
        return moments

    def _on_task(self, data: Mapping[str, Any], _text: str) -> list[Moment]:
        role = str(data.get("role") or "")
        moments = self._finish_role() if role != self._role else []
        self._role = role
        return moments

    def _on_start(self, data: Mapping[str, Any], _text: str) -> list[Moment]:
        self.working[str(data["host"])] = self._where(data)
        return []

    def _on_skipped(self, data: Mapping[str, Any], _text: str) -> list[Moment]:
        self.working.pop(str(data["host"]), None)
        return []

    def _on_ok(self, data: Mapping[str, Any], text: str) -> list[Moment]:
        host, result = str(data["host"]), _result(data)
        self.working.pop(host, None)
        tally = self._tallies.setdefault(host, Tally())
        tally.seconds += float(data.get("duration") or 0)
        own = own_part(result)
        # under no_log a result tells nothing, not even whether it changed something; Ansible's line does
        if result.get("changed") or ("censored" in result and text.startswith("changed:")):
            items = own.get("changed_items") or [data.get("task", "")]
            tally.changed += [plain(str(item)) for item in items]
        if isinstance(own.get("status"), Mapping):
            self.statuses[host] = own["status"]
        return self._take_warnings(own) + self._take_releases(host, own)

    def _on_failed(self, data: Mapping[str, Any], _text: str) -> list[Moment]:
        host, result = str(data["host"]), _result(data)
        self.working.pop(host, None)
        if data.get("ignore_errors"):
            return []
        own, where = own_part(result), self._where(data)
        return self._take_releases(host, own) + self._fail(diagnose(host, where, result))

    def _on_unreachable(self, data: Mapping[str, Any], _text: str) -> list[Moment]:
        host = str(data["host"])
        self.working.pop(host, None)
        return self._fail(diagnose(host, self._where(data), {**_result(data), "unreachable": True}))

    def _on_stats(self, data: Mapping[str, Any], _text: str) -> list[Moment]:
        self._stats = {kind: dict(data.get(kind) or {}) for kind in _STATS}
        return self._finish_role()

    def _take_warnings(self, own: Mapping[str, Any]) -> list[Moment]:
        texts = [plain(str(text)) for text in own.get("warnings") or []]
        new = [text for text in texts if text not in self.warnings]
        self.warnings += new
        return self._headed_by_play([Warned(text) for text in new])

    def _take_releases(self, host: str, own: Mapping[str, Any]) -> list[Moment]:
        moments: list[Moment] = []
        apps = own.get("apps")
        for app, facts in apps.items() if isinstance(apps, Mapping) else ():
            if isinstance(facts, Mapping) and facts.get("on_failure") == "undo":
                self.undo = str(facts.get("deploy") or "")
            told = Release(host, plain(str(app)), **_release_facts(facts))
            before = self._releases.get((host, told.app), Release(host, told.app))
            news = {name: value for name, value in asdict(told).items() if value}
            news["seconds"] = round(before.seconds + told.seconds, 3)
            if told.outcome == "unchanged":  # this verb had nothing to do; an earlier one had
                news["outcome"] = before.outcome or told.outcome
            merged = replace(before, **news)
            self._releases[host, told.app] = merged
            moments.append(replace(merged, outcome=told.outcome, seconds=told.seconds))
        return self._headed_by_play(moments)

    def _fail(self, failure: Failure) -> list[Moment]:
        if failure.host in self._tallies:  # it counts, but "ok" is not what is to be said of it
            self._finish_host(failure.host)
        same = any((old.summary, old.detail) == (failure.summary, failure.detail) for old in self.failures)
        self.failures.append(failure)
        return self._headed_by_play([Repeated(failure.host) if same else failure])

    def _finish_role(self) -> list[Moment]:
        return self._headed_by_play([self._finish_host(host) for host in sorted(self._tallies)])

    def _finish_host(self, host: str) -> Step:
        tally = self._tallies.pop(host)
        step = Step(host, self._play, self._role, round(tally.seconds, 3), tuple(tally.changed))
        self.steps.append(step)
        return step

    def _headed_by_play(self, moments: list[Moment]) -> list[Moment]:
        """Put the play's name before the first thing that is told of it; many plays have nothing to tell."""
        if not moments or self._headed == self._play:
            return moments
        self._headed = self._play
        return [Header(self._play), *moments]

    def _where(self, data: Mapping[str, Any]) -> str:
        return f"{self._role or self._play}: {data.get('task', '')}"


_STATS = ("processed", "changed", "failures", "dark")
_TELLERS = {
    "playbook_on_play_start": Story._on_play,
    "playbook_on_task_start": Story._on_task,
    "playbook_on_stats": Story._on_stats,
    "runner_on_start": Story._on_start,
    "runner_on_ok": Story._on_ok,
    "runner_on_skipped": Story._on_skipped,
    "runner_on_failed": Story._on_failed,
    "runner_on_unreachable": Story._on_unreachable,
}
_RELEASE_TEXTS = ("release", "url", "commit", "detail")
_OUTCOMES = SERVING | ON_THE_WAY | {"rolled_back", "not_activated", "would be released"}


def _result(data: Mapping[str, Any]) -> Mapping[str, Any]:
    result = data.get("res")
    return result if isinstance(result, Mapping) else {}


def _release_facts(facts: object) -> dict[str, Any]:
    facts = facts if isinstance(facts, Mapping) else {}
    seconds, outcome = facts.get("seconds"), str(facts.get("outcome") or "")
    return {
        **{name: plain(str(facts.get(name) or "")) for name in _RELEASE_TEXTS},
        # any other word is why it was not activated
        "outcome": outcome if outcome in _OUTCOMES else "not_activated",
        "seconds": float(seconds) if isinstance(seconds, int | float) else 0.0,
    }

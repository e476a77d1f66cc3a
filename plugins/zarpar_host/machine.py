"""What a switch does to the host: slots, processes, the live link, timers. The seam where unit tests put their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from zarpar_host import envfile, health, live, processes
from zarpar_host.errors import HostError
from zarpar_host.files import replace_link, write_atomic
from zarpar_host.masking import mask
from zarpar_host.run import run
from zarpar_host.state import Live, Places

LAUNCHER = "/usr/local/sbin/zarpar-host"
STOP_LIMIT = 900
LAST_TASK_LIMIT = 90_000  # more than the longest `stop`: systemd itself ends a process after that
DRAIN_LIMIT = 30.0
LOG_LINES = 100


def middle_out(text: str) -> str:
    """The beginning and the end of a log: an app that is started again and again says why in the first lines."""
    lines = text.strip().splitlines()
    if len(lines) <= 2 * LOG_LINES:
        return "\n".join(lines)
    left_out = len(lines) - 2 * LOG_LINES
    return "\n".join([*lines[:LOG_LINES], f"... {left_out} lines left out", *lines[-LOG_LINES:]])


def machine_for(places: Places) -> Machine:
    """The real host, as what it runs of the app makes it."""
    return WithoutWeb(places) if processes.part(places) == processes.PROCESSES else Machine(places)


class Machine:
    """The real host, for one app."""

    def __init__(self, places: Places) -> None:
        self.places = places

    def start_slot(self, target: Live) -> None:
        """Start a release in a slot; returns when gunicorn is up (which proves nothing about the app yet).

        A slot that still drains is given its time first.
        """
        if self.cancel_drain(target.slot):
            live.wait_drained(self.places.socket(target.slot), DRAIN_LIMIT)
        self.stop_slot(target.slot)
        replace_link(self.places.slot_file(target.slot), str(self.places.environment(target.release)))
        unit = self.places.unit(target.slot)
        run(["systemctl", "reset-failed", unit], check=False)
        done = run(["systemctl", "start", unit], check=False, timeout=300)
        if done.code != 0:
            raise HostError("the app did not start", detail=self.journal(target.slot), kind="unhealthy")

    def stop_slot(self, slot: str, *, wait: bool = True) -> None:
        """Stop a slot, which finishes the requests it has; `wait`: until it has."""
        waiting = [] if wait else ["--no-block"]
        run(["systemctl", "stop", *waiting, self.places.unit(slot)], check=False, timeout=STOP_LIMIT)

    def kill_slot(self, slot: str) -> None:
        """Stop a slot at once: one that no visitor ever reached, and that may hang."""
        run(["systemctl", "kill", "--signal=SIGKILL", self.places.unit(slot)], check=False)
        self.stop_slot(slot)

    def slot_alive(self, slot: str) -> bool:
        """Whether a slot's unit runs."""
        return not processes.units_down([self.places.unit(slot)])

    def journal(self, slot: str) -> str:
        """What a slot's app logged since it was started: to the journal, and to its own file when it has one.

        The secrets of its environment are left out: this is told to the controller, and kept in its logs.
        """
        text = self._journal(self.places.unit(slot))
        log = Path("/var/log/zarpar") / self.places.app / "error.log"
        if log.is_file():
            text = f"{text}\n{self._masked(slot, log.read_text(errors='replace'))[-3000:]}"
        return self._masked(slot, text)

    def _masked(self, slot: str, text: str) -> str:
        file = self.places.slot_file(slot)
        return mask(text, envfile.parse(file.read_text()) if file.is_file() else {})

    def process_journal(self, slot: str, instance: str) -> str:
        """What a process logged since it was started, without the secrets of its environment."""
        return self._masked(slot, self._journal(self.places.process_unit(slot, instance)))

    def _journal(self, unit: str) -> str:
        shown = run(["systemctl", "show", "-p", "InvocationID", "--value", unit], check=False)
        this = shown.out.strip()
        which = [f"_SYSTEMD_INVOCATION_ID={this}", "+", f"INVOCATION_ID={this}"] if this else ["--lines=100"]
        which = which if this else ["--unit", unit, *which]
        return middle_out(run(["journalctl", "--no-pager", "--output=cat", *which], check=False).out)

    def gate(self, slot: str, check: health.Check) -> None:
        """Wait until the app in a slot is healthy. Raises HostError with its log when it is not in time."""
        socket = self.places.socket(slot)
        try:
            health.gate(lambda limit: health.ask_socket(socket, check, limit), check, lambda: self.slot_alive(slot))
        except HostError as error:
            error.summary = self._masked(slot, error.summary)
            error.detail = f"{self._masked(slot, error.detail)}\n{self.journal(slot)}".strip()
            raise

    def ask_site(self, check: health.Check, tls: bool) -> str:
        """One look through nginx; empty when it is well."""
        return health.ask_site(check, tls)

    def point(self, target: Live | None, previous: str) -> bool:
        """Make visitors reach `target`; see live.point."""
        return live.point(self.places, target, previous)

    def points_to(self, target: Live) -> bool:
        """Whether visitors reach the slot of `target`."""
        return live.points_to(self.places, target)

    def slot_restarted(self, slot: str) -> bool:
        """Whether a slot's app is down, or ended since it was started and was started again."""
        return bool(processes.ended([self.places.unit(slot)]))

    def going_down(self) -> bool:
        """Whether the host is shut down: then everything ends, also what is well."""
        return run(["systemctl", "is-system-running"], check=False).out.strip() == "stopping"

    def ask_slot(self, slot: str, check: health.Check) -> str:
        """One look over a slot's socket; empty when the app is well."""
        return health.ask_socket(self.places.socket(slot), check)

    def watch_later(self, token: str) -> None:
        """Start the watcher of a switch: a unit of its own, which outlives this process and the connection."""
        argv = ["systemd-run", "--quiet", "--collect", f"--unit=zarpar-watch-{self.places.app}-{token}"]
        argv += ["-p", "Restart=on-failure", "-p", "RestartSec=1", LAUNCHER, "watch"]
        run([*argv, f"app={self.places.app}", f"token={token}"])

    def drain_later(self, slot: str, seconds: int) -> None:
        """Stop a slot when its last connections are done, at most after `seconds`, without waiting here."""
        self.cancel_drain(slot)
        argv = ["systemd-run", "--quiet", "--collect", f"--unit={self._drain(slot)}", LAUNCHER, "drain"]
        run([*argv, f"app={self.places.app}", f"slot={slot}", f"seconds={seconds}"])

    def cancel_drain(self, slot: str) -> bool:
        """Stop a drain of this slot; whether one was still going on."""
        unit = f"{self._drain(slot)}.service"
        if run(["systemctl", "is-active", "--quiet", unit], check=False).code != 0:
            return False
        run(["systemctl", "stop", unit], check=False)
        return True

    def wait_drained(self, slot: str, seconds: float) -> None:
        """Wait until nobody uses a slot any more, at most `seconds`."""
        live.wait_drained(self.places.socket(slot), seconds)

    def _drain(self, slot: str) -> str:
        return f"zarpar-drain-{self.places.app}-{slot}"

    def start_later(self, target: Live) -> None:
        """At boot: have systemd start a release's slot when its turn comes."""
        replace_link(self.places.slot_file(target.slot), str(self.places.environment(target.release)))
        run(["systemctl", "start", "--no-block", self.places.unit(target.slot)], check=False)

    def start_processes(self, slot: str, instances: Sequence[str]) -> None:
        """Start processes in a slot; returns when each is a program of its own (which proves little about it)."""
        names = [self.places.process_unit(slot, name) for name in instances]
        run(["systemctl", "reset-failed", *names], check=False)
        done = run(["systemctl", "start", "--", *names], check=False, timeout=300)
        if done.code != 0:
            raise HostError("the processes did not start", detail=done.tail, kind="unhealthy")

    def start_processes_later(self, slot: str, instances: Sequence[str]) -> None:
        """Have systemd start processes that do not run; one that still ends its last task is started after that."""
        names = [self.places.process_unit(slot, name) for name in instances]
        run(["systemctl", "start", "--no-block", "--", *names], check=False)

    def stop_processes(self, slot: str, instances: Sequence[str] = ("*",), *, wait: bool) -> None:
        """Let processes of a slot (all of them by default) end their last task; `wait`: until they have."""
        names = [self.places.process_unit(slot, name) for name in instances]
        run(
            ["systemctl", "stop", *([] if wait else ["--no-block"]), "--", *names], check=False, timeout=LAST_TASK_LIMIT
        )

    def processes_ended(self, slot: str, instances: Sequence[str]) -> dict[str, str]:
        """Which processes of a slot are down, or ended since they were started, and how."""
        units = {self.places.process_unit(slot, name): name for name in instances}
        return {units[unit]: how for unit, how in processes.ended(list(units)).items()}

    def units_down(self, units: Sequence[str]) -> list[str]:
        """Which units are not up."""
        return processes.units_down(list(units))

    def set_timers(self, calendar: Mapping[str, str], *, boot: bool = False) -> None:
        """Have exactly these timers (schedule to time) for the app's schedules.

        One that is new or has a new time starts from now on, what it would have missed does not count; but at boot
        it does.
        """
        folder = self.places.timers
        there = {path.name: path.read_text() for path in folder.glob(self.places.timer("*"))}
        wanted = {self.places.timer(n): processes.timer_text(self.places.app, n, at) for n, at in calendar.items()}
        gone = [name for name in there if wanted.get(name) != there[name]]
        fresh = [name for name in wanted if there.get(name) != wanted[name]]
        if gone:
            run(["systemctl", "stop", "--", *gone], check=False)
        for name in gone:
            (folder / name).unlink(missing_ok=True)
        for name in fresh:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / name, wanted[name].encode(), mode=0o644)
            if not boot:
                (self.places.timer_stamps / f"stamp-{name}").unlink(missing_ok=True)
        if gone or (fresh and not boot):  # at boot systemd has read none of them yet
            run(["systemctl", "daemon-reload"], check=False)
        if wanted:
            run(["systemctl", "start", "--no-block", "--", *sorted(wanted)], check=False)


class WithoutWeb(Machine):
    """A host that runs an app's processes only: a slot there has no web server to start, to ask or to drain.

    What is left of a slot is the environment that its processes start with; they alone are proved and watched.
    """

    def start_slot(self, target: Live) -> None:
        """Give a slot to a release; a web server there is of a time when the host was another's."""
        self.stop_slot(target.slot)
        self.start_later(target)

    def start_later(self, target: Live) -> None:
        """Give a slot to a release."""
        replace_link(self.places.slot_file(target.slot), str(self.places.environment(target.release)))

    def slot_alive(self, _slot: str) -> bool:
        """There is nothing that could have ended."""
        return True

    def gate(self, _slot: str, _check: health.Check) -> None:
        """Nobody asks these hosts for a page."""

    def ask_site(self, _check: health.Check, _tls: bool) -> str:
        """There is no nginx to ask."""
        return ""

    def slot_restarted(self, _slot: str) -> bool:
        """There is nothing that could have ended."""
        return False

    def ask_slot(self, _slot: str, _check: health.Check) -> str:
        """There is no socket to ask."""
        return ""

    def drain_later(self, _slot: str, _seconds: int) -> None:
        """There are no visitors to wait for; the processes end by themselves."""

"""What a switch does to the host: slots, the live link, timers. The one seam where unit tests put their own."""

from __future__ import annotations

from pathlib import Path

from zarpar_host import envfile, health, live
from zarpar_host.errors import HostError
from zarpar_host.files import replace_link
from zarpar_host.masking import mask
from zarpar_host.run import run
from zarpar_host.state import Live, Places

LAUNCHER = "/usr/local/sbin/zarpar-host"
STOP_LIMIT = 900
DRAIN_LIMIT = 30.0
LOG_LINES = 100


def middle_out(text: str) -> str:
    """The beginning and the end of a log: an app that is started again and again says why in the first lines."""
    lines = text.strip().splitlines()
    if len(lines) <= 2 * LOG_LINES:
        return "\n".join(lines)
    left_out = len(lines) - 2 * LOG_LINES
    return "\n".join([*lines[:LOG_LINES], f"... {left_out} lines left out", *lines[-LOG_LINES:]])


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

    def stop_slot(self, slot: str) -> None:
        """Stop a slot and wait for its end: it finishes the requests it has."""
        run(["systemctl", "stop", self.places.unit(slot)], check=False, timeout=STOP_LIMIT)

    def kill_slot(self, slot: str) -> None:
        """Stop a slot at once: one that no visitor ever reached, and that may hang."""
        run(["systemctl", "kill", "--signal=SIGKILL", self.places.unit(slot)], check=False)
        self.stop_slot(slot)

    def slot_alive(self, slot: str) -> bool:
        """Whether a slot's unit runs."""
        return run(["systemctl", "is-active", "--quiet", self.places.unit(slot)], check=False).code == 0

    def journal(self, slot: str) -> str:
        """What a slot's app logged since it was started: to the journal, and to its own file when it has one.

        The secrets of its environment are left out: this is told to the controller, and kept in its logs.
        """
        shown = run(["systemctl", "show", "-p", "InvocationID", "--value", self.places.unit(slot)], check=False)
        this = shown.out.strip()
        which = [f"_SYSTEMD_INVOCATION_ID={this}", "+", f"INVOCATION_ID={this}"] if this else ["--lines=100"]
        unit = [] if this else ["--unit", self.places.unit(slot)]
        text = middle_out(run(["journalctl", "--no-pager", "--output=cat", *unit, *which], check=False).out)
        log = Path("/var/log/zarpar") / self.places.app / "error.log"
        if log.is_file():
            text = f"{text}\n{self._masked(slot, log.read_text(errors='replace'))[-3000:]}"
        return self._masked(slot, text)

    def _masked(self, slot: str, text: str) -> str:
        file = self.places.slot_file(slot)
        return mask(text, envfile.parse(file.read_text()) if file.is_file() else {})

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

    def slot_restarted(self, slot: str) -> bool:
        """Whether a slot's app is down, or ended since it was started and was started again."""
        argv = ["systemctl", "show", "-p", "ActiveState,NRestarts", "--value", self.places.unit(slot)]
        return sorted(run(argv, check=False).out.split()) != ["0", "active"]

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

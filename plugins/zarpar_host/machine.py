"""What a switch does to the host: slots, nginx, timers. The one seam where unit tests put their own."""

from __future__ import annotations

from pathlib import Path

from zarpar_host import health, nginx
from zarpar_host.errors import HostError
from zarpar_host.files import replace_link
from zarpar_host.run import run
from zarpar_host.state import Live, Places

LAUNCHER = "/usr/local/sbin/zarpar-host"
STOP_LIMIT = 900


class Machine:
    """The real host, for one app."""

    def __init__(self, places: Places) -> None:
        self.places = places

    def start_slot(self, live: Live) -> None:
        """Start a release in a slot; returns when gunicorn is up (which proves nothing about the app yet)."""
        self.cancel_drain(live.slot)
        self.stop_slot(live.slot)
        slot_file = self.places.slot_file(live.slot)
        replace_link(slot_file, str(self.places.environment(live.release)))
        unit = self.places.unit(live.slot)
        run(["systemctl", "reset-failed", unit], check=False)
        done = run(["systemctl", "start", unit], check=False, timeout=300)
        if done.code != 0:
            raise HostError("the app did not start", detail=self.journal(live.slot), kind="unhealthy")

    def stop_slot(self, slot: str) -> None:
        """Stop a slot and wait for its end: it finishes the requests it has."""
        run(["systemctl", "stop", self.places.unit(slot)], check=False, timeout=STOP_LIMIT)

    def slot_alive(self, slot: str) -> bool:
        """Whether a slot's unit runs."""
        return run(["systemctl", "is-active", "--quiet", self.places.unit(slot)], check=False).code == 0

    def journal(self, slot: str) -> str:
        """What a slot's unit logged last."""
        argv = ["journalctl", "--no-pager", "-o", "cat", "-n", "40", "-u", self.places.unit(slot)]
        return run(argv, check=False).tail

    def gate(self, slot: str, check: health.Check) -> None:
        """Wait until the app in a slot is healthy. Raises HostError with its log when it is not in time."""
        socket = self.places.socket(slot)
        try:
            health.gate(lambda limit: health.ask_socket(socket, check, limit), check, lambda: self.slot_alive(slot))
        except HostError as error:
            error.detail = f"{error.detail}\n{self.journal(slot)}".strip()
            raise

    def ask_site(self, check: health.Check, tls: bool) -> str:
        """One look through nginx; empty when it is well."""
        return health.ask_site(check, tls)

    def point(self, live: Live | None, previous: str) -> bool:
        """Make nginx send visitors to `live`; see nginx.point."""
        return nginx.point(self.places, live, previous)

    def arm(self, token: str, seconds: int) -> None:
        """The dead-man switch: go back by itself unless confirmed within this time of the host's own clock."""
        argv = [
            "systemd-run",
            "--quiet",
            "--collect",
            f"--unit={self._watch(token)}",
            f"--on-active={seconds}s",
        ]
        run(
            [
                *argv,
                "--timer-property=AccuracySec=1s",
                LAUNCHER,
                "expire",
                f"app={self.places.app}",
                f"token={token}",
            ]
        )

    def disarm(self, token: str) -> None:
        """Stop the dead-man switch's timer; its work would find nothing to do anyway."""
        run(["systemctl", "stop", f"{self._watch(token)}.timer"], check=False)

    def _watch(self, token: str) -> str:
        return f"zarpar-watch-{self.places.app}-{token}"

    def drain_later(self, slot: str, seconds: int) -> None:
        """Stop a slot when nginx's old workers are gone, at most after `seconds`, without waiting here."""
        self.cancel_drain(slot)
        argv = ["systemd-run", "--quiet", "--collect", f"--unit={self._drain(slot)}", LAUNCHER, "drain"]
        run([*argv, f"app={self.places.app}", f"slot={slot}", f"seconds={seconds}"])

    def cancel_drain(self, slot: str) -> None:
        """Stop a drain of this slot that is still going on."""
        run(["systemctl", "stop", f"{self._drain(slot)}.service"], check=False)

    def _drain(self, slot: str) -> str:
        return f"zarpar-drain-{self.places.app}-{slot}"

    def start_later(self, slot: str) -> None:
        """At boot: have systemd start a slot when its turn comes."""
        run(["systemctl", "start", "--no-block", self.places.unit(slot)], check=False)

    @staticmethod
    def booted() -> bool:
        """Whether the host is up (false while it boots: then nothing may wait for a unit)."""
        return run(["systemctl", "is-active", "--quiet", "nginx.service"], check=False).code == 0

    def write_include(self, live: Live | None, previous: str) -> None:
        """Make nginx's include agree with state.json without a reload: nginx is not running yet."""
        from zarpar_host.files import write_atomic  # only needed here

        path = Path(self.places.live_include)
        if path.parent.is_dir():
            write_atomic(path, nginx.live_include(self.places, live, previous).encode(), mode=0o644)

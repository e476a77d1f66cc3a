"""Reboots at moments that nobody chose: every unit comes up, and the same release serves."""

from __future__ import annotations

import random
import time

import pytest
from support import trial
from support.report import note
from support.site import APP, Site
from support.whole import settled
from support.world import until

from zarpar import lab

WANTED = ("nginx.service", "ssh.service", "postgresql.service", "certbot.timer")


@pytest.mark.parametrize("reboots", [pytest.param(2, marks=pytest.mark.short), 20])
def test_reboots(site: Site, reboots: int) -> None:
    """Every second one strikes while a deploy goes on; then either release is right, and the rerun ends well."""
    seed = 20261121 + reboots
    chance = random.Random(seed)  # noqa: S311 - no secret
    slowest = 0.0
    for number in range(reboots):
        before = site.live()
        moment = chance.uniform(0.2, 10)
        commit, running = "", None
        if number % 2:
            commit = trial.plan(site.app, f"Reboot {number + 1}", health_seconds=0.3, build_seconds=1)
            running = site.world.begin_deploy()
        time.sleep(moment)
        lab.reboot(site.host)
        up = time.monotonic()
        if running:
            running.wait()
        release = settled(site)
        slowest = max(slowest, time.monotonic() - up)
        assert release == before or (commit and release.startswith(commit)), f"reboot {number + 1} of seed {seed}"
        _all_units_are_up(site)
        if commit:
            site.again()
    note(f"{reboots} reboots (seed {seed}): all units up; slowest {slowest:.0f} s after the login")


def _all_units_are_up(site: Site) -> None:
    slot = site.world.state(site.host, APP)["live"]["slot"]

    def failed() -> list[str]:
        listed = site.on_host("systemctl", "list-units", "--failed", "--plain", "--no-legend", check=False)
        return [line.split()[0] for line in listed.splitlines()]

    def inactive() -> list[str]:
        wanted = [*WANTED, f"zarpar-{APP}@{slot}.service"]
        states = site.on_host("systemctl", "is-active", *wanted, check=False).split()
        return [unit for unit, state in zip(wanted, states, strict=True) if state not in ("active", "activating")]

    def recovered() -> bool:
        shown = site.on_host("systemctl", "show", "-p", "Result,ExecMainPID,ActiveState", "zarpar-recover.service")
        facts = dict(line.split("=", 1) for line in shown.split())
        return facts["Result"] == "success" and facts["ExecMainPID"] != "0" and facts["ActiveState"] == "inactive"

    until(lambda: not inactive(), 60, f"these units come up: {inactive()}")
    until(recovered, 60, "zarpar-recover.service has run in this boot, and ended well")
    assert failed() == []

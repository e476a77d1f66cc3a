"""The ground: the host answers, is a Debian that is tested, and is as calm as role base promises."""

from __future__ import annotations

import warnings

import pytest
from environment import Server
from on_host import Machine
from testinfra.host import Host

OURS = (
    "zarpar-",
    "nginx",
    "postgresql",
    "certbot",
    "unattended-upgrades",
    "apt-daily",
    "logrotate",
    "systemd-journald",
)


def test_can_be_reached(server: Server, connection: Host | str) -> None:
    if not isinstance(connection, Host):
        pytest.fail(f"{server.name} cannot be asked as root over SSH: {connection}", pytrace=False)


def test_is_a_supported_debian(machine: Machine) -> None:
    facts = machine.facts
    assert (facts["distribution"], facts["version"]) in {("debian", 12), ("debian", 13)}


def test_nothing_of_ours_has_failed(server: Server, machine: Machine) -> None:
    """Others' units may fail on a host in use: that is told, and is not Zarpar's to judge."""
    shown = machine.check("systemctl list-units --state=failed --no-legend --plain")
    failed = {line.split()[0] for line in shown.splitlines()}
    ours = {unit for unit in failed if server.lab or unit.startswith(OURS)}
    assert not ours, machine.check("systemctl status --no-pager --lines=20 %s || true", *sorted(ours)[:1])
    if failed:
        warnings.warn(f"{server.name}: failed, and not of Zarpar: {', '.join(sorted(failed))}", stacklevel=1)


def test_units_are_read_in_full(machine: Machine) -> None:
    """A unit that changed on disk without a daemon-reload would take effect at some later time."""
    shown = machine.check("systemctl show --property=Id,NeedDaemonReload 'zarpar-*' 'nginx*' 'postgresql*' 'certbot*'")
    stale = [block.split()[0] for block in shown.split("\n\n") if "NeedDaemonReload=yes" in block]
    assert not stale, f"run systemctl daemon-reload: {stale}"


def test_time_zone(server: Server, machine: Machine) -> None:
    zone = server.settings["base_timezone"]
    assert machine.check("readlink -f /etc/localtime") == machine.check("readlink -f %s", f"/usr/share/zoneinfo/{zone}")
    assert machine.check("cat /etc/timezone") == zone


def test_journal_is_kept_and_bounded(server: Server, machine: Machine) -> None:
    settings = machine.check("systemd-analyze cat-config systemd/journald.conf").splitlines()
    assert f"SystemMaxUse={server.settings['base_journal_max']}" in settings
    # The journal's own folder is named after the machine; before the first boot with it, /run holds the journal.
    header = machine.check("journalctl --header --quiet | grep '^File path:' || true")
    assert "/var/log/journal/" in header, f"the journal is not on the disk, so a reboot loses it:\n{header}"


def test_apt_waits_for_its_lock_and_never_reboots(server: Server, machine: Machine) -> None:
    wanted = int(bool(server.settings["base_unattended_upgrades"]))
    shown = machine.check("apt-config dump").splitlines()
    assert 'DPkg::Lock::Timeout "600";' in shown
    assert f'APT::Periodic::Unattended-Upgrade "{wanted}";' in shown
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in shown


def test_swap_as_configured(server: Server, machine: Machine) -> None:
    wanted = str(server.settings["base_swap"])
    if machine.facts["container"]:
        pytest.skip("a container has no swap of its own")
    if not wanted.isdigit():
        pytest.skip(f"base_swap is {wanted}")
    assert machine.facts["swap_mb"] >= int(wanted) - 1


def test_accounts(server: Server, machine: Machine) -> None:
    accounts = server.settings["base_users"]
    if not accounts:
        pytest.skip("base_users is empty")
    for account in accounts:
        home = f"/home/{account['name']}"
        keys = machine.check("cat %s", f"{home}/.ssh/authorized_keys").splitlines()
        assert [key for key in keys if not key.startswith("#")] == account["keys"], account["name"]
        assert machine.denied("nobody", f"ls {home}/.ssh"), f"everybody may look into {home}/.ssh"
        may = machine.host.run("sudo --list --other-user=%s", account["name"]).stdout
        assert ("NOPASSWD: ALL" in may) == bool(account.get("sudo")), may


def test_recovery_at_boot_is_armed(machine: Machine) -> None:
    """After a power cut nginx and the slots agree with the durable state before the first visitor comes."""
    shown = machine.properties("zarpar-recover.service", "UnitFileState", "Before", "Result")
    assert shown["UnitFileState"] == "enabled"
    assert "nginx.service" in shown["Before"].split()
    assert shown["Result"] == "success"

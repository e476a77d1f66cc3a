"""What is said of hosts, names and ports; the looking itself is tested on hosts (tests/e2e/test_commands.py)."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from zarpar import doctor
from zarpar.connection import Server
from zarpar.doctor import Finding, Name
from zarpar_host import facts as host_facts

SERVER = Server("web1", "203.0.113.10", "deploy", frozenset({"web"}), "ssh", (), "")
DEBIAN = {"ID": "debian", "VERSION_ID": "13", "PRETTY_NAME": "Debian GNU/Linux 13 (trixie)"}
WELL: dict[str, Any] = {
    "root": True, "system": DEBIAN, "systemd": True, "memory_mb": 2000, "swap_mb": 0, "disk_free_mb": 9000,
    "inodes_free": 500_000, "lock": "", "broken_dpkg": False, "booting": False, "addresses": ["203.0.113.10"],
    "port_80": "", "ours": False, "clock": 1000.0, "serves": True,
}  # fmt: skip
HOSTS = {"web1": {"203.0.113.10", "2001:db8::10"}}


def judged(**facts: Any) -> dict[str, Finding]:
    found = doctor.judge(SERVER, {**WELL, **facts}, 1000.0, 0.2)
    return {finding.check: finding for finding in found}


def test_a_good_host_is_all_ok() -> None:
    found = judged()
    assert {finding.level for finding in found.values()} == {"ok"}
    assert list(found) == ["SSH", "sudo", "system", "memory", "disk", "clock", "apt"]


@pytest.mark.parametrize(
    ("facts", "check", "level", "seen", "hint"),
    [
        ({"root": False}, "sudo", "fail", "deploy may not become root", "/etc/sudoers.d/90-deploy"),
        ({"system": {**DEBIAN, "VERSION_ID": "11"}}, "system", "fail", "Debian", "reinstall"),
        ({"system": {}}, "system", "fail", "an unknown system", "reinstall"),
        ({"systemd": False}, "system", "fail", "without systemd", "reinstall"),
        ({"memory_mb": 200}, "memory", "fail", "200 MB", "larger server"),
        ({"memory_mb": 512}, "memory", "warn", "512 MB", "swap"),
        ({"memory_mb": 512, "swap_mb": 1024}, "memory", "ok", "512 MB", ""),
        ({"disk_free_mb": 500}, "disk", "fail", "0.5 GB", "journalctl --vacuum-size"),
        ({"disk_free_mb": 2000}, "disk", "warn", "2.0 GB", "apt-get clean"),
        ({"inodes_free": 10}, "disk", "fail", "10 inodes", "apt-get clean"),
        ({"inodes_free": None}, "disk", "ok", "GB free", ""),
        ({"clock": 1060.0}, "clock", "warn", "60.0 s ahead", "timedatectl set-ntp true"),
        ({"clock": 940.0}, "clock", "warn", "60.0 s behind", "timedatectl set-ntp true"),
        ({"lock": "unattended-upgr (process 7)"}, "apt", "warn", "unattended-upgr (process 7) holds", "waits"),
        ({"booting": True}, "apt", "warn", "cloud-init", "cloud-init status --wait"),
        ({"broken_dpkg": True}, "apt", "warn", "was cut", "dpkg --configure -a"),
    ],
)
def test_hosts(facts: dict[str, Any], check: str, level: str, seen: str, hint: str) -> None:
    finding = judged(**facts)[check]
    assert finding.level == level
    assert seen in finding.seen
    assert hint in finding.hint
    assert bool(finding.hint) == (level != "ok")


@pytest.mark.parametrize(
    ("name", "levels", "words"),
    [
        (Name("a.example.com", ("203.0.113.10",)), ["ok", "ok"], ""),
        (Name("a.example.com", ("203.0.113.10",), ("2001:db8::10",)), ["ok", "ok"], ""),
        (Name("a.example.com", (), ("2001:db8::10",)), ["warn", "ok"], "A 203.0.113.10"),
        (Name("a.example.com", ("192.0.2.1",)), ["fail", "ok"], "a.example.com. A 203.0.113.10"),
        (Name("a.example.com", ("203.0.113.10", "192.0.2.1")), ["fail", "ok"], "192.0.2.1 is none"),
        (Name("a.example.com"), ["fail", "ok"], "no A record"),
        (Name("a.example.com", problem="there is no such name"), ["fail"], "no such name"),
        (Name("a.example.com", ("203.0.113.10",), ("2001:db8::99",)), ["ok", "fail"], "remove the AAAA record"),
    ],
)
def test_names(name: Name, levels: list[str], words: str) -> None:
    found = doctor.judge_name(name, HOSTS, needed=True)
    assert [finding.level for finding in found] == levels
    assert words in " ".join(finding.seen + finding.hint for finding in found)
    assert all(finding.hint for finding in found if finding.level != "ok")
    relaxed = doctor.judge_name(name, HOSTS, needed=False)
    assert "fail" not in [finding.level for finding in relaxed], "without TLS no certificate depends on it"


@pytest.mark.parametrize(
    ("host", "name", "level", "seen"),
    [
        ({"port_80": "apache2", "serves": False}, Name("a.b.co", ("192.0.2.1",)), "fail", "apache2 listens on it"),
        ({"port_80": "?", "serves": False}, Name("a.b.co", ("192.0.2.1",)), "fail", "? listens on it"),
        ({"port_80": "nginx", "serves": False}, Name("a.b.co", ("192.0.2.1",)), "warn", "could not be tried"),
        ({"port_80": "", "serves": True}, Name("a.b.co", problem="x"), "warn", "without an address"),
    ],
)
def test_ports_that_are_not_asked(host: dict[str, Any], name: Name, level: str, seen: str) -> None:
    (finding,) = doctor.judge_port(name, "token", [{**WELL, **host}], "shop")
    assert (finding.level, seen in finding.seen, bool(finding.hint)) == (level, True, True)


@pytest.mark.parametrize(
    ("answer", "port_80", "level", "words"),
    [
        ((200, "token", ""), "", "ok", "answers with this run's token"),
        ((200, "another", ""), "", "fail", "not with this run's token"),
        ((404, "", ""), "nginx", "warn", "it has no site for this name yet"),
        ((404, "", ""), "", "fail", "answers 404"),
        ((0, "", "timed out"), "", "fail", "ufw allow 80/tcp"),
    ],
)
def test_answers(
    monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str, str], port_80: str, level: str, words: str
) -> None:
    monkeypatch.setattr(doctor, "fetch", lambda *_words: answer)
    (finding,) = doctor.judge_port(Name("a.b.co", ("192.0.2.1",)), "token", [{**WELL, "port_80": port_80}], "shop")
    assert finding.level == level
    assert words in finding.seen + finding.hint


def test_a_name_that_cannot_be_asked() -> None:
    """A name server that nobody runs: one clear answer, and no exception."""
    found = doctor.resolve("shop.example.com", "127.0.0.253")
    assert found.problem.startswith("no answer from DNS")
    assert "\n" not in found.problem


@pytest.mark.parametrize(
    ("entry", "domains"),
    [({"domains": ["a", 1, "b"]}, ["a", "b"]), ({"domains": "a"}, []), ({}, []), (None, []), ("x", [])],
)
def test_domains_of_anything(entry: object, domains: list[str]) -> None:
    assert doctor.domains_of(entry) == domains


def test_the_same_systems_as_the_host_program() -> None:
    assert {("debian", version) for version in doctor.SUPPORTED} == set(host_facts.SUPPORTED)


def test_the_checkup_parses_on_old_pythons() -> None:
    """It runs on whatever Python a host has, also on one that is not supported."""
    text = Path(doctor.__file__).with_name("checkup.py").read_text()
    ast.parse(text, feature_version=(3, 9))
    assert len(text) < 100_000, "it travels as one argument"

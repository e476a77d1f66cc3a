"""Role gunicorn_systemd: the units that its manifest makes of the apps, as systemd reads them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from zarpar import manifest, services
from zarpar.actions import ROOT, ZarparAction
from zarpar.config import load_apps

FACTS = {"cpus": 2, "memory_mb": 2048}
APPS: dict[str, Any] = {
    "shop": {
        "domains": ["shop.example.com"],
        "source": {"path": "."},
        "database": "postgres",
        "limits": {"memory": "512M"},
        "processes": {"worker": {"count": 2, "stop": 600}, "beat": 1},
    },
    "my-blog": {"domains": ["blog.example.com"], "source": {"path": "."}, "logs": "file"},
}


def items(host: str = "web1", apps: dict[str, Any] = APPS, **groups: list[str]) -> list[dict[str, Any]]:
    """The manifest as it goes to a host of a fleet: of two web servers, unless the groups are given."""
    loader = DataLoader()
    action = ZarparAction(None, None, None, loader, Templar(loader=loader), None)
    role = ROOT / "roles" / "gunicorn_systemd"
    checked = load_apps(apps)
    plain = [app.for_host(name, "") for name, app in checked.items()]
    groups = groups or {"web": ["web1", "web2"]}
    known = {"apps": plain, "host": FACTS, "inventory_hostname": host, "groups": groups}
    known["services"] = services.of_host(checked, known)
    return manifest.items(action, role, manifest.role_variables(role, known))


def files(host: str = "web1", apps: dict[str, Any] = APPS) -> dict[str, str]:
    return {item["file"]: item["content"] for item in items(host, apps) if "file" in item}


def settings(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"(?m)^(\w+)=(.*)$", text):
        found.setdefault(name, []).append(value)
    return found


@pytest.fixture(scope="module")
def units() -> dict[str, str]:
    return {Path(path).name: text for path, text in files().items() if path.endswith("@.service")}


def test_what_apt_may_install_ahead() -> None:
    """What a manifest begins with; not what needs something else to be there first."""
    assert manifest.beginning(items()) == [{"packages": ["postgresql-client"]}]
    assert manifest.beginning(items()[1:]) == []
    assert manifest.beginning([]) == []
    files = [{"directory": "/a"}, {"file": "/a/b", "content": ""}]
    assert manifest.beginning([*files, {"packages": ["x"]}, {"unit": "x.service"}]) == [*files, {"packages": ["x"]}]
    assert manifest.beginning(files) == []
    assert manifest.beginning([{"file": "/a", "content": "", "secret": True}, {"packages": ["x"]}]) == []


def test_each_app_has_its_templates(units: dict[str, str]) -> None:
    kinds = ("@", ".blue@", ".green@", ".schedule@")
    assert set(units) == {f"zarpar-{app}{kind}.service" for app in APPS for kind in kinds}


def test_systemd_accepts_the_units(units: dict[str, str], tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here: the role's own `validate` asks the host's")
    for name, text in units.items():
        (tmp_path / name).write_text(text.replace("/usr/local/bin/uv", "/bin/true"))
    paths = [str(tmp_path / name) for name in units]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", *paths], capture_output=True, text=True, check=False
    )
    mine = [line for line in (done.stdout + done.stderr).splitlines() if "zarpar" in line]
    assert not mine, mine


def test_processes_are_as_shut_in_as_the_slot(units: dict[str, str]) -> None:
    """All that systemd-analyze security weighs is the same, so the exposure is."""
    apart = {"Description", "Type", "NotifyAccess", "EnvironmentFile", "ExecStart", "ExecCondition", "Restart"}
    apart |= {"RestartSec", "RuntimeDirectory", "RuntimeDirectoryMode", "SyslogIdentifier", "TimeoutStartSec"}
    apart |= {"TimeoutStopSec", "StartLimitIntervalSec", "CollectMode", "ConditionPathExists"}
    for app in APPS:
        slot = settings(units[f"zarpar-{app}@.service"])
        shut_in = {name: value for name, value in slot.items() if name not in apart}
        assert {"User", "CapabilityBoundingSet", "SystemCallFilter", "ReadWritePaths", "TasksMax"} <= set(shut_in)
        for kind in ("blue", "green", "schedule"):
            other = settings(units[f"zarpar-{app}.{kind}@.service"])
            assert {name: value for name, value in other.items() if name not in apart} == shut_in, kind


def test_processes_stop_warm(units: dict[str, str]) -> None:
    for app, stop in (("shop", "605"), ("my-blog", "305")):
        its = settings(units[f"zarpar-{app}.green@.service"])
        assert its["EnvironmentFile"] == [f"/etc/zarpar/apps/{app}/slots/green"]
        wanted = {"Type": "exec", "Restart": "always", "KillMode": "mixed", "TimeoutStopSec": stop}
        assert {name: its[name] for name in wanted} == {name: [value] for name, value in wanted.items()}


def test_the_commands_do_what_they_say(units: dict[str, str], tmp_path: Path) -> None:
    """ExecStart as systemd runs it, in a release of a test's own: the script, in the tree, with its environment."""
    tree = tmp_path / "src"
    tree.mkdir()
    for kind, name in (("processes", "my-worker-2"), ("schedules", "clean-up")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / name).write_text(f'printf "%s" "{kind} $PWD $SECRET"\n')
    environment = {"ZARPAR_RELEASE": str(tree), "SECRET": "100% $x"}
    for unit, instance, kind in (("blue", "my-worker-2-13", "processes"), ("schedule", "clean-up", "schedules")):
        for line in settings(units[f"zarpar-shop.{unit}@.service"])["ExecStart"]:
            match = re.fullmatch(r"/bin/sh -c '([^'\\]+)' %i", line)
            assert match, line
            assert not re.search(r"(?<!\$)\$(?!\$)", match.group(1).replace("$$", "")), "systemd would expand it"
            assert "%" not in match.group(1).replace("%%", ""), "systemd would expand it"
            script = match.group(1).replace("$$", "$").replace("%%", "%")
            done = subprocess.run(
                ["/bin/sh", "-c", script, instance], env=environment, capture_output=True, text=True, check=True
            )
            assert done.stdout == f"{kind} {tree} 100% $x"


def test_a_schedule_that_the_release_does_not_have_is_passed_over(units: dict[str, str], tmp_path: Path) -> None:
    line = settings(units["zarpar-shop.schedule@.service"])["ExecCondition"][0]
    script = re.fullmatch(r"/bin/sh -c '([^'\\]+)' %i", line)
    assert script
    argv = ["/bin/sh", "-c", script.group(1).replace("$$", "$").replace("%%", "%")]
    environment = {"ZARPAR_RELEASE": str(tmp_path / "src")}
    (tmp_path / "schedules").mkdir()
    (tmp_path / "schedules" / "there").write_text("")
    assert subprocess.run([*argv, "there"], env=environment, check=False).returncode == 0
    assert subprocess.run([*argv, "gone"], env=environment, check=False).returncode == 1


def test_one_host_of_a_fleet_runs_what_must_not_run_twice() -> None:
    marks = {f"/etc/zarpar/apps/{app}/once" for app in APPS}
    first, second = items("web1"), items("web2")
    assert {item.get("file") for item in first} >= marks
    assert not {item.get("absent") for item in first} & marks
    assert {item.get("absent") for item in second} >= marks
    assert not {item.get("file") for item in second} & marks
    for host in (first, second):
        told = [item for item in host if item.get("command", [""])[-1].startswith("app=")]
        assert {path for item in told for path in item["on_change_of"]} == marks


@pytest.mark.parametrize(
    ("groups", "host", "once", "part"),
    [
        ({"web": ["web1", "web2"]}, "web1", True, ""),
        ({"web": ["web1", "web2"], "worker": []}, "web1", True, ""),
        ({"web": ["web1"], "worker": ["k1", "k2"]}, "web1", False, "web"),
        ({"web": ["web1"], "worker": ["k1", "k2"]}, "k1", True, "processes"),
        ({"web": ["web1"], "worker": ["k1", "k2"]}, "k2", False, "processes"),
        ({"web": ["web1", "web2"], "worker": ["web2"]}, "web2", True, ""),
        ({"web": ["web1", "web2"], "worker": ["web2"]}, "web1", False, "web"),
        ({"fronts": ["f1"]}, "f1", True, ""),
    ],
)
def test_what_a_host_runs(groups: dict[str, list[str]], host: str, once: bool, part: str) -> None:
    told = items(host, **groups)
    written = {item["file"]: item["content"] for item in told if "content" in item}
    gone = {item.get("absent") for item in told}
    for app in APPS:
        folder = f"/etc/zarpar/apps/{app}"
        assert (f"{folder}/once" in written, f"{folder}/once" in gone) == (once, not once)
        assert written.get(f"{folder}/part", "") == part
        assert (f"{folder}/part" in gone) == (not part)


def test_what_runs_goes_on_until_the_release_is_there_on_the_workers() -> None:
    """`agree` comes before `part`: it moves the scheduler, and ends no worker yet."""
    paths = [str(next(iter(item.values()))) for item in items("web1", web=["web1"], worker=["k1"])]
    agrees = [number for number, text in enumerate(paths) if "agree" in text]
    parts = [number for number, text in enumerate(paths) if text.endswith("/part")]
    assert len(agrees) == len(parts) == len(APPS)
    assert max(agrees) < min(parts)

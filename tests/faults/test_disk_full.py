"""No room: refused before anything is written, or undone; nothing half-written stays, and the rerun passes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from support import trial
from support.report import note
from support.site import APP, Site, make_site
from support.whole import check_whole

SIZE, INODES = "700m", "60k"
HOST, ADDRESS, DOMAIN = "full", "10.77.0.126", "notes.full.example.test"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A host whose /srv is a small file system of its own."""
    site = make_site(
        tmp_path_factory.mktemp("full"), name="full", host=HOST, address=ADDRESS, domain=DOMAIN, **trial.KEYS
    )
    site.base = trial.make_trial(site.app)
    site.world.up()
    site.on_host("mount", "-t", "tmpfs", "-o", f"size={SIZE},nr_inodes={INODES},mode=755", "tmpfs", "/srv")
    first = site.world.deploy()
    assert first.code == 0, str(first)
    yield site
    site.world.remove()


@pytest.fixture
def full(small: Site) -> Iterator[Site]:
    small.heal()
    yield small
    _free(small)


def _free(site: Site) -> None:
    site.on_host("mount", "-o", f"remount,size={SIZE},nr_inodes={INODES}", "/srv")


@pytest.mark.parametrize("what", ["blocks", pytest.param("inodes", marks=pytest.mark.short)])
def test_full_from_the_beginning(full: Site, what: str) -> None:
    """Refused before anything is written."""
    before, files = full.serving(), _tree(full)
    commit = trial.plan(full.app, f"No {what} before it begins")
    assert "choked" in full.on_host("python3", "-c", CHOKE, APP, "now", what)
    done = full.world.deploy()
    note(f"no {what} before the deploy: exit code {done.code} after {done.seconds:.0f} s")
    assert done.code in (1, 2), str(done)
    assert len(done.errors()) == 1, str(done)
    assert "too little room" in done.errors()[0], str(done)
    assert (full.serving(), full.live()) == (before, before)
    assert _tree(full) == files, "something was written"
    _free(full)
    full.again()
    assert full.serving().startswith(commit)
    check_whole(full)


@pytest.mark.parametrize("what", ["blocks", "inodes"])
@pytest.mark.parametrize("step", ["receive", "unpack", "venv", "build", "seal"])
def test_full_in_the_middle(full: Site, step: str, what: str) -> None:
    """Room enough at the beginning; then, when the step comes, none. The check is passed, the write fails."""
    before = full.serving()
    files = _tree(full)
    commit = _commit(full, step)
    full.on_host("tee", "/run/choke", stdin=CHOKE)
    choker = f"nohup python3 /run/choke {APP} {step} {what} > /run/choke.log 2>&1 &"
    full.on_host("sh", "-c", choker)
    done = full.world.deploy()
    said = full.on_host("cat", "/run/choke.log")
    note(f"{what} run out at {step}: exit code {done.code} after {done.seconds:.0f} s")
    assert "choked" in said, f"{said}\n{done}"
    assert done.code in (1, 2), str(done)  # 2: told as what it is, a full disk, with nothing changed
    assert len(done.errors()) == 1, str(done)
    assert "This is a bug" not in done.text, str(done)
    assert (full.serving(), full.live()) == (before, before)
    _free(full)
    left = {name for name in _tree(full) - files if commit in name or "incoming" in name}
    assert left == set(), "something half-written stayed"
    full.again()
    assert full.serving().startswith(commit)
    check_whole(full)


def test_state_cannot_be_written(full: Site) -> None:
    """/var/lib/zarpar is full at the switch: the old release goes on, and the rerun passes."""
    before = full.serving()
    commit = trial.plan(full.app, "No room for the record", ill_until=1)
    full.on_host("sh", "-c", SMALL_STATE)
    try:
        full.on_host("dd", "if=/dev/zero", "of=/var/lib/zarpar/ballast", "bs=4k", check=False)
        done = full.world.deploy()
        assert done.code in (1, 2), str(done)
        assert len(done.errors()) == 1, str(done)
        assert (full.serving(), full.live()) == (before, before)
        json.loads(full.on_host("cat", f"/var/lib/zarpar/apps/{APP}/state.json"))
    finally:
        full.on_host("sh", "-c", "rm -f /var/lib/zarpar/ballast; cp -a /var/lib/zarpar/. /run/zarpar-state-now/")
        full.on_host("umount", "/var/lib/zarpar")
        full.on_host("sh", "-c", "cp -a /run/zarpar-state-now/. /var/lib/zarpar/")
    full.again()
    assert full.serving().startswith(commit)
    check_whole(full)


SMALL_STATE = """set -e
mkdir -p /run/zarpar-state /run/zarpar-state-now
cp -a /var/lib/zarpar/. /run/zarpar-state/
mount -t tmpfs -o size=1m,mode=755 tmpfs /var/lib/zarpar
cp -a /run/zarpar-state/. /var/lib/zarpar/
"""
CHOKE = '''"""Waits for a step of a deploy, and then leaves no room in /srv."""
import os, subprocess, sys, time
from pathlib import Path

app, step, what = sys.argv[1:]
home = Path("/srv", app)
before = {*os.listdir(home / "releases"), *os.listdir(home / "venvs")}


def new(folder):
    return [home / folder / name for name in os.listdir(home / folder) if name not in before and name[0] != "."]


reached = {
    "now": lambda: True,
    "receive": lambda: (home / "releases" / ".incoming.tar").exists(),
    "unpack": lambda: any((one / "src").exists() for one in new("releases")),
    "venv": lambda: any((one / "bin").exists() for one in new("venvs")),
    "build": lambda: any((one / "src" / "building").exists() for one in new("releases")),
    "seal": lambda: any((one / "src" / "building").exists() for one in new("releases")),
}[step]
end = time.monotonic() + 120
while not reached():
    if time.monotonic() > end:
        sys.exit("never")
    time.sleep(0.001)
for attempt in range(500):  # what is written meanwhile makes the size too small, and the mount refuses it
    disk = os.statvfs("/srv")
    if what == "blocks":
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize // 1024
        option = f"size={used}k"
    else:
        option = f"nr_inodes={disk.f_files - disk.f_ffree}"
    done = subprocess.run(["mount", "-o", f"remount,{option}", "/srv"], capture_output=True, text=True)
    if done.returncode == 0:
        break
print("choked" if done.returncode == 0 else done.stderr, option)
'''


def _commit(site: Site, step: str) -> str:
    """A release whose steps take a while; for the virtual environment, one with another lock file."""
    if step == "venv":
        lock = site.app.folder / "uv.lock"
        lock.write_text(lock.read_text() + f"\n# another one for {site.app.head()}\n")
    trial.ballast(site.app, 6 * 2**20)
    seconds = 3 if step in ("build", "seal") else 0
    return trial.plan(site.app, f"No room at {step}", build_seconds=seconds, build_writes=step == "build")


def _tree(site: Site) -> set[str]:
    """All names below the app's folder that a deploy makes, two levels deep."""
    found = site.on_host("find", f"/srv/{APP}/releases", f"/srv/{APP}/venvs", "-maxdepth", "2")
    return set(found.split())

"""The vault's SECRET_KEY turns up nowhere but where the app needs it. Runs after (and looks at) the other tests."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.report import note
from support.site import APP, Site

ALLOWED = f"/etc/zarpar/apps/{APP}/env/"
TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - places to search, not to write to
SEARCHED = ("/etc", "/usr", "/opt", "/srv", "/var", "/root", "/home", "/run", *TEMPORARY)
CONTROLLER = (*TEMPORARY, tempfile.gettempdir(), Path.home() / ".ansible", Path.home() / ".cache")
LARGE = 20 * 2**20


class Sampler:
    """Looks at all processes of the machine while the body runs; the lab's hosts are on the same machine."""

    def __init__(self, secret: str) -> None:
        self.secret = secret.encode()
        self.found: set[str] = set()
        self.looks = 0
        self._over = threading.Event()
        self._own = Path("/proc/self/ns/mnt").readlink()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.03):
            self.looks += 1
            for folder in Path("/proc").iterdir():
                if folder.name.isdigit():
                    with contextlib.suppress(OSError):
                        self._look(folder)

    def _look(self, folder: Path) -> None:
        words = (folder / "cmdline").read_bytes()
        if self.secret in words:
            self.found.add(f"command line: {words!r}")
        inside = (folder / "ns/mnt").readlink() != self._own
        if not inside and self.secret in (folder / "environ").read_bytes():  # on hosts, the app has it there
            self.found.add(f"environment on the controller: {words!r}")


@pytest.fixture(scope="module")
def runs(site: Site) -> Sampler:
    """More runs, of the talkative kinds, with every process looked at all the while."""
    sampler = Sampler(site.secret)
    head = site.app.head()
    with sampler():
        site.app.commit("Said aloud")
        site.world.deploy("--verbose", "--check")
        site.world.deploy("--verbose")
        site.app.commit("Said louder")
        site.world.playbook("site.yml", "--diff", "-vvv", "--check")
        site.world.playbook("site.yml", "--diff", "-vvv")
        site.app.commit("Fails loudly", {"wsgi.py": "raise SystemExit('not today')\n"})
        assert site.world.deploy("--verbose").code == 1
        assert site.world.playbook("site.yml", "--diff", "-vvv").code != 0
        site.world.zarpar("status", "--json", "--verbose")
        site.app.reset(head)
        assert site.world.deploy("--json").code == 0
    note(f"{sampler.looks} looks at all processes")
    return sampler


def test_the_app_has_it(runs: Sampler, site: Site) -> None:
    """The counter-check: it is a secret that is really used."""
    assert site.secret in site.on_host("cat", f"{ALLOWED}{site.live()}")


def test_not_in_any_output(runs: Sampler, site: Site) -> None:
    assert len(site.world.said) > 8
    for done in site.world.said:
        assert site.secret not in done.text, f"{done.argv} printed the secret"


def test_not_in_any_process(runs: Sampler) -> None:
    assert runs.looks > 20
    assert runs.found == set()


def test_not_in_the_journal_nor_in_units(runs: Sampler, site: Site) -> None:
    assert site.secret not in site.on_host("journalctl", "--no-pager", "--output=export")
    assert site.secret not in site.on_host("systemctl", "show", "*", "--no-pager")


def test_only_in_the_app_s_environment_files_on_the_host(runs: Sampler, site: Site) -> None:
    argv = ["grep", "-rlsaF", "-f", "-", *SEARCHED]  # the pattern comes over standard input: it is in no `ps`
    found = site.on_host(*argv, stdin=site.secret, check=False).splitlines()
    assert found, "the search finds nothing at all: mend this test"
    assert [path for path in found if not path.startswith((ALLOWED, f"/etc/zarpar/apps/{APP}/slots/"))] == []
    for path in found:
        assert site.on_host("stat", "-L", "-c", "%a %U", path).split() == ["600", "root"]


def test_nobody_else_can_read_it_on_the_host(runs: Sampler, site: Site) -> None:
    argv = ["runuser", "-u", "nobody", "--", "grep", "-rlsaF", "-f", "-", *SEARCHED]
    assert site.on_host(*argv, stdin=site.secret, check=False) == ""


def test_not_in_files_of_the_controller(runs: Sampler, site: Site) -> None:
    """Whatever was written since the first deploy, in the folders for temporary files and caches."""
    begin = time.time() - (time.monotonic() - site.began)
    secret = site.secret.encode()
    found, looked = [], 0
    for path in _written_since(begin):
        with contextlib.suppress(OSError):
            looked += 1
            if secret in path.read_bytes():
                found.append(str(path))
    note(f"{looked} files of the controller")
    assert found == []


def _written_since(begin: float) -> Iterator[Path]:
    for top in dict.fromkeys(map(Path, CONTROLLER)):
        for folder, folders, names in os.walk(top):
            folders[:] = [name for name in folders if not os.path.ismount(f"{folder}/{name}")]
            for name in names:
                path = Path(folder) / name
                with contextlib.suppress(OSError):
                    facts = path.lstat()
                    if path.is_file() and not path.is_symlink() and facts.st_mtime >= begin and facts.st_size < LARGE:
                        yield path

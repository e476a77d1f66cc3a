"""The sample apps, all on one host, of Debian 13 and of Debian 12: as `init` describes them, deployed, and used.

`older` wants a Python that neither Debian has: it is copied from this machine, where there is one, to where uv keeps
the Pythons of a host. That it is asked for, found, chosen and served with is tested so; its download by uv is not.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from support import samples
from support.report import note
from support.samples import CHECKS, Sample
from support.world import World, until

from zarpar import lab

ADDRESSES = {13: "10.77.0.191", 12: "10.77.0.192"}
PROCESSES = {"shop": {"worker-1", "beat-1"}, "mailer": {"worker-1"}}
OTHER_PYTHON = "3.12"
# Prints the releases in whose trees an app's Celery and RQ processes work.
WORK_IN = """
import os, pwd, sys
user = pwd.getpwnam(sys.argv[1]).pw_uid
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        words = open(f"/proc/{pid}/cmdline").read().split("\\0")
        programs = {word.rpartition("/")[2] for word in words[:2]}
        if os.stat(f"/proc/{pid}").st_uid == user and programs & {"celery", "rq"}:
            print(os.readlink(f"/proc/{pid}/cwd").split("/")[4])
    except OSError:
        pass
"""


@dataclass
class Place:
    """A host with all the apps; `releases`: the live one of each app after the newest deploy."""

    world: World
    host: str
    debian: int
    samples: dict[str, Sample]
    releases: dict[str, str] = field(default_factory=dict)

    def ask(self, sample: Sample) -> samples.Ask:
        """A visitor of an app, through HTTPS; no page of it fails to come."""
        return lambda path, post=None: self.world.visit(self.host, f"https://{sample.domain}{path}", post=post)

    def look(self) -> dict[str, str]:
        """What the host's own records call live, by sample."""
        return {name: self.world.live(self.host, sample.name) for name, sample in self.samples.items()}

    def processes(self, app: str) -> set[str]:
        """The units of an app's processes that run, as slot@process-number."""
        listed = self.world.run_on(
            self.host, "systemctl", "list-units", "--plain", "--no-legend", "--state=active,activating,deactivating",
            f"zarpar-{app}.*@*.service",
        )  # fmt: skip
        names = (line.split()[0] for line in listed.splitlines() if line)
        return {name.removeprefix(f"zarpar-{app}.").removesuffix(".service") for name in names}


@pytest.fixture(scope="module", params=ADDRESSES, ids="debian{}".format)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The host after its first deploy."""
    debian: int = request.param
    host, python = f"apps{debian}", samples.other_python(OTHER_PYTHON)
    names = [name for name in CHECKS if python or name != "older"]
    domains = {name: f"{name}.{host}.example.test" for name in names}
    hosts = {host: {"address": ADDRESSES[debian], "debian": debian, "names": list(domains.values())}}
    world = World(tmp_path_factory.mktemp(host), host, hosts, web=[host], db=[host])
    made = {name: samples.begin(world, name, ADDRESSES[debian], domain) for name, domain in domains.items()}
    samples.join(world, list(made.values()))
    world.up()
    if python:
        samples.install_python(lab.exec_command(host), python, OTHER_PYTHON)
    done = world.deploy()
    assert done.code == 0, str(done)
    note(f"{len(names)} apps on a bare Debian {debian}: {done.seconds:.1f} s")
    place = Place(world, host, debian, made)
    place.releases = place.look()
    yield place
    world.remove()


def test_each_release_is_its_commit_s(place: Place) -> None:
    for name, sample in place.samples.items():
        assert place.releases[name].startswith(sample.commit), name


@pytest.mark.parametrize("name", CHECKS)
def test_an_app_works(place: Place, name: str) -> None:
    """Through HTTPS, and through its queue where it has one."""
    _check(place, name)


@pytest.mark.parametrize("name", CHECKS)
def test_an_app_runs_what_it_says_beside_web_and_nothing_else(place: Place, name: str) -> None:
    sample = _sample(place, name)
    slot = place.world.state(place.host, sample.name)["live"]["slot"]
    assert place.processes(sample.name) == {f"{slot}@{each}" for each in PROCESSES.get(name, set())}


def test_static_files_come_from_the_release(place: Place) -> None:
    """nginx has them: Django without DEBUG serves none."""
    sample = _sample(place, "blog")
    path = f"/srv/{sample.name}/live/tree/staticfiles/admin/css/base.css"
    body = samples.text(place.ask(sample), "/static/admin/css/base.css")
    assert body == place.world.run_on(place.host, "cat", path)


@pytest.mark.parametrize("name", ["poems", "pens"])
def test_packages_for_development_are_not_installed(place: Place, name: str) -> None:
    sample = _sample(place, name)
    listed = place.world.run_on(place.host, "sh", "-c", f"ls /srv/{sample.name}/venvs/*/lib/python3*/site-packages")
    assert {"quart" if name == "poems" else "psycopg", "gunicorn"} <= set(listed.split())
    assert "pytest" not in listed


def test_another_python_is_the_one_on_the_host(place: Place) -> None:
    told = samples.well(place.ask(_sample(place, "older")))
    assert told["base"].startswith(f"{samples.UV_PYTHONS}/cpython-{OTHER_PYTHON}.")


def test_only_the_folder_of_a_repository_is_released(place: Place) -> None:
    sample = _sample(place, "nested")
    listed = place.world.run_on(place.host, "ls", f"/srv/{sample.name}/live/tree/").split()
    assert {"backend.py", "tides.json"} <= set(listed)
    assert not {"frontend", "render.yaml", "README.md"} & set(listed)


def test_again_there_is_nothing_to_do(place: Place) -> None:
    done = place.world.deploy()
    assert done.code == 0, str(done)
    assert "nothing to do" in done.err, str(done)
    assert place.look() == place.releases


def test_a_second_release_takes_over_with_its_workers(place: Place) -> None:
    """Tasks that wait while the workers are exchanged are done, and the new ones are done by the new release.

    The app in a folder of a repository now comes from the repository's address, as it does when it is pushed.
    """
    shop, nested = _sample(place, "shop"), _sample(place, "nested")
    place.world.apps[nested.name]["source"] = {"repo": f"file://{nested.app.folder}", "folder": "backend"}
    place.world.write()
    for name, sample in place.samples.items():
        folder = "backend/" if name == "nested" else ""
        sample.app.commit("The second", {f"{folder}NEWS": "Something is new.\n"})
    before = place.releases
    queued = samples.said(place.ask(shop), "/parcels", {"first": 1, "last": 60, "seconds": 0.5}, status=202)
    done = place.world.deploy()
    assert done.code == 0, str(done)
    note(f"second release of {len(place.samples)} apps on Debian {place.debian}: {done.seconds:.1f} s")
    place.releases = place.look()
    for name, sample in place.samples.items():
        assert place.releases[name] != before[name], name
        assert place.releases[name].startswith(sample.commit), name
    for name in place.samples:
        _check(place, name)
    numbers = list(range(1, queued["queued"] + 1))
    parcels = functools.partial(samples.said, place.ask(shop), "/parcels")
    until(lambda: parcels()["sent"] == numbers, 120, "all parcels are sent, before the app queues any again")
    note(f"{len(numbers)} tasks while the workers were exchanged: {parcels()['runs'] - len(numbers)} ran twice")


@pytest.mark.parametrize("name", PROCESSES)
def test_workers_of_the_old_release_end(place: Place, name: str) -> None:
    """And each process of the new one runs once: there is one beat."""
    sample = _sample(place, name)
    slot = place.world.state(place.host, sample.name)["live"]["slot"]
    wanted = {f"{slot}@{each}" for each in PROCESSES[name]}
    until(lambda: place.processes(sample.name) == wanted, 120, f"the processes {wanted}")
    assert _releases_of(place, sample) == {place.releases[name]}


def test_beat_s_tasks_come_once(place: Place) -> None:
    """Every two seconds, not twice every two seconds; what it sent while it was exchanged is long past."""
    sample = _sample(place, "shop")
    first = samples.said(place.ask(sample), "/ticks")["ticks"][0][0]

    def since() -> list[float]:
        return [at for at, _ in samples.said(place.ask(sample), "/ticks")["ticks"] if at >= first]

    until(lambda: len(since()) >= 5 and max(since()) > first + 11, 60, "eleven seconds of beat, five ticks")
    times = [at for at in since() if at <= first + 11]
    assert len(times) <= 8, f"two beats would make eleven: {times}"


def test_another_python_is_built_beside_the_old_one(place: Place) -> None:
    """An app that changes its Python goes back to the old one, environment and all, when its release does."""
    _sample(place, "older")  # its Python is there
    plain = _sample(place, "plain")
    before, old = place.world.live(place.host, plain.name), _python(place, plain)
    assert f"Python {OTHER_PYTHON}." not in old
    plain.app.commit("Another Python", {".python-version": f"{OTHER_PYTHON}\n"})
    done = place.world.deploy()
    assert done.code == 0, str(done)
    place.releases = place.look()
    assert f"Python {OTHER_PYTHON}." in _python(place, plain)
    _check(place, "plain")
    done = place.world.zarpar("rollback", "--app", plain.name)
    assert done.code == 0, str(done)
    assert (place.world.live(place.host, plain.name), _python(place, plain)) == (before, old)
    place.releases = place.look()
    _check(place, "plain")


def test_verify_finds_nothing(place: Place) -> None:
    """The suite that a user runs against a server, for all apps of this one."""
    done = place.world.zarpar("verify")
    assert done.code == 0, str(done)


def _sample(place: Place, name: str) -> Sample:
    if name not in place.samples:
        pytest.skip(f"{name}: there is no CPython {OTHER_PYTHON} on this machine that could be copied to the host")
    return place.samples[name]


def _check(place: Place, name: str) -> None:
    sample = _sample(place, name)
    CHECKS[name](place.ask(sample), place.releases[name])


def _python(place: Place, sample: Sample) -> str:
    """What the Python says that the app's live release runs with."""
    done = place.world.zarpar("run", "--app", sample.name, "--", "python", "--version")
    return done.text


def _releases_of(place: Place, sample: Sample) -> set[str]:
    """The releases in whose trees processes of the app's user work, but for its web server's."""
    return set(place.world.run_on(place.host, "python3", "-c", WORK_IN, sample.name).split())

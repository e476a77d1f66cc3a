"""The sample apps of tests/apps: what `init` finds in them, and what each does when it works, seen by its visitors."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from support.world import BIN, ROOT, App, Done, World, clean_environment, until

APPS = ROOT / "tests" / "apps"
PATIENCE = 60  # seconds for a queued task
UV_PYTHONS = "/opt/zarpar/python"


class Ask(Protocol):
    """Asks one app for a page: `ask(path)`, or `ask(path, post=data)`; returns status and body."""

    def __call__(self, path: str, *, post: Any = None) -> tuple[int, str]: ...


# -- what each app does ------------------------------------------------------------------------------------------


def check_shop(ask: Ask, release: str) -> None:
    """An order is priced by a Celery worker of this release, and beat's task runs every two seconds."""
    assert well(ask) == {"status": "ok", "database": "ok", "redis": "ok", "release": release}
    queued = said(ask, "/orders", {"item": "anchor", "amount": 3}, status=202)
    assert result(ask, queued["task"]) == {"cents": 38700, "release": release}
    before = said(ask, "/ticks")["ticks"][:1]
    until(lambda: said(ask, "/ticks")["ticks"][:1] not in ([], before), PATIENCE, "beat's next task")
    until(lambda: said(ask, "/ticks")["ticks"][0][1] == release, PATIENCE, "beat's task, run by this release")


def check_mailer(ask: Ask, release: str) -> None:
    """A letter is written by an RQ worker of this release."""
    assert well(ask) == {"status": "ok", "redis": "ok", "release": release}
    queued = said(ask, "/letters", {"name": "Tess"}, status=202)
    assert result(ask, queued["task"]) == {"letter": "Dear Tess, we sail at dawn.", "release": release}


def check_feed(ask: Ask, release: str) -> None:
    """Coroutines run beside each other, the lifespan's cache is there, and a stream comes whole."""
    assert well(ask) == {"status": "ok", "redis": "ok", "release": release}
    news = said(ask, "/news")
    assert news["news"] == ["news of harbour", "news of weather", "news of tides"]
    assert news["seconds"] < 0.8, "three sources of 0.3 s each were asked one after another"
    assert ask("/stream") == (200, "news of harbour\nnews of weather\nnews of tides\n")


def check_blog(ask: Ask, release: str) -> None:
    """Migrations have run, and the static files of Django are there, which Django itself does not serve."""
    assert well(ask) == {"status": "ok", "database": "ok", "release": release}
    assert said(ask, "/posts") == {"posts": ["Set sail"]}
    page = text(ask, "/")
    style = re.search(r'href="(/static/posts/blog\.[0-9a-f]+\.css)"', page)
    assert style, page
    assert "max-width" in text(ask, style.group(1))
    assert "Django" in text(ask, "/admin/login/")
    assert text(ask, "/static/admin/css/base.css")


def check_plain(ask: Ask, release: str) -> None:
    assert well(ask) == {"status": "ok", "release": release}
    assert said(ask, "/knots/10") == {"kmh": 18.52}


def check_poems(ask: Ask, release: str) -> None:
    """A stream of lines; and the development group is not there."""
    assert well(ask) == {"status": "ok", "release": release, "pytest": False}
    status, body = ask("/poems/swan")
    assert status == 200, body
    assert body.count("\n") == 3


def check_pens(ask: Ask, release: str) -> None:
    """What the release line made in the database is there and kept."""
    assert well(ask) == {"status": "ok", "database": "ok", "release": release}
    before = said(ask, "/pens").get("blue", 0)
    assert said(ask, "/pens/blue/3", {}) == {"blue": before + 3}


def check_older(ask: Ask, release: str) -> None:
    """Its own Python, and a module that was compiled for it."""
    told = well(ask)
    assert (told["release"], told["python"]) == (release, "3.12")
    assert ".cpython-312-" in told["compiled"]


def check_nested(ask: Ask, release: str) -> None:
    """What render.yaml says is so; the rest of the repository is not there."""
    assert well(ask) == {"status": "ok", "release": release, "secret": True, "frontend": False}
    assert said(ask, "/tides/3") == {"harbour": "Lisbon", "centimetres": 230}


CHECKS: dict[str, Callable[[Ask, str], None]] = {
    "shop": check_shop,
    "mailer": check_mailer,
    "feed": check_feed,
    "blog": check_blog,
    "plain": check_plain,
    "poems": check_poems,
    "pens": check_pens,
    "older": check_older,
    "nested": check_nested,
}


def text(ask: Ask, path: str, post: Any = None, *, status: int = 200) -> str:
    seen, body = ask(path, post=post)
    assert seen == status, f"{path} answered {seen}: {body[:500]}"
    return body


def said(ask: Ask, path: str, post: Any = None, *, status: int = 200) -> Any:
    return json.loads(text(ask, path, post, status=status))


def well(ask: Ask) -> dict[str, Any]:
    """What /health says, which checks the app's services; the first page tells the same release."""
    told: dict[str, Any] = said(ask, "/health")
    assert f"release {told['release']}<" in text(ask, "/")
    return told


def result(ask: Ask, task: str) -> Any:
    """The result of a queued task, once there is one."""
    return until(lambda: _ended(said(ask, f"/tasks/{task}")), PATIENCE, f"the end of task {task}")["result"]


def _ended(told: dict[str, Any]) -> dict[str, Any] | None:
    assert told["state"] not in ("FAILURE", "REVOKED", "failed", "stopped", "canceled"), told
    return told if told["state"] == "SUCCESS" else None


# -- inventories that `init` writes ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """A sample app's checkout, in which `init` was run."""

    app: App
    domain: str
    inventory: Path  # what `init` wrote
    said: Done

    @property
    def name(self) -> str:
        """The app's name in the inventory."""
        (name,) = self.described
        return str(name)

    @property
    def described(self) -> dict[str, Any]:
        """`apps` as `init` wrote it."""
        found: dict[str, Any] = yaml.safe_load((self.inventory / "group_vars/all/apps.yml").read_text())["apps"]
        return found

    @property
    def commit(self) -> str:
        """The newest commit of the app's own folder: the first eight digits."""
        folder = os.path.normpath(self.inventory / self.described[self.name]["source"]["path"])
        return self.app.git("log", "-1", "--format=%H", "--", folder)[:8]

    def secrets(self) -> dict[str, str]:
        """What the vault holds that `init` made."""
        vault, password = self.inventory / "group_vars/all/vault.yml", self.inventory / ".vault-password"
        argv = [str(BIN / "ansible-vault"), "view", "--vault-password-file", str(password), str(vault)]
        shown = subprocess.run(argv, check=True, capture_output=True, text=True, env=clean_environment())
        return yaml.safe_load(shown.stdout) or {}


def begin(world: World, name: str, address: str, domain: str) -> Sample:
    """Copy a sample app into a checkout of its own, and run `init` there."""
    app = world.copy(APPS / name, name)
    given = ["--host", address, "--domain", domain, "--user", "deploy"]
    argv = (str(BIN / "zarpar"), "init", *given)
    done = subprocess.run(
        argv, cwd=app.folder, env=clean_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    sample = Sample(app, domain, app.folder / "inventories" / "prod", Done(argv, done.returncode, "", done.stderr, 0))
    assert done.returncode == 0, str(sample.said)
    app.commit("An inventory")
    return sample


def join(world: World, samples: list[Sample]) -> None:
    """One inventory for all of them, as a person has it who puts each app of `init` beside the first.

    All that `init` wrote of an app is taken as it is; but the path to its checkout, which is seen from elsewhere, and
    the number of workers, which `init` leaves to Zarpar: this many apps share a host of the lab.
    """
    secrets: dict[str, str] = {}
    for sample in samples:
        for name, keys in sample.described.items():
            folder = Path(os.path.normpath(sample.inventory / keys["source"]["path"]))
            source = {**keys["source"], "path": os.path.relpath(folder, world.inventory)}
            gunicorn = {"workers": 2, **keys.get("gunicorn", {})}
            world.apps[name] = {**keys, "source": source, "gunicorn": gunicorn}
        secrets |= sample.secrets()
    world.keep_secret(secrets)
    world.write()


# -- another Python ----------------------------------------------------------------------------------------------


def other_python(version: str) -> Path | None:
    """The folder of a CPython of this version on this machine that can be copied: whole, and runs from any place.

    Looked for on the path and where pyenv keeps those it built.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"versions/{version}*/bin/python{version}"))]
    for program in (Path(name).resolve() for name in found if name):
        folder = program.parent.parent
        whole = (folder / "lib" / f"python{version}" / "os.py").is_file() and folder != Path("/usr")
        if whole and _runs_alone(program):
            return folder
    return None


def _runs_alone(program: Path) -> bool:
    """A real program, not a script that looks for one."""
    return program.read_bytes()[:4] == b"\x7fELF"


def install_python(exec_command: list[str], folder: Path, version: str) -> None:
    """Put a CPython where uv keeps those of a host, as an administrator may do where uv cannot download any.

    The folder is named as uv names its own: by that it is found. A CPython that was built with a shared library
    finds that as after `make install`: by the host's list of such folders.
    """
    asked = [str(folder / "bin" / f"python{version}"), "-c", "import platform; print(platform.python_version())"]
    full = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    place = f"{UV_PYTHONS}/cpython-{full}-linux-{os.uname().machine}-gnu"
    subprocess.run([*exec_command, "mkdir", "-p", place], check=True)
    unpack = [*exec_command, "tar", "-x", "--no-same-owner", "-C", place]
    with (
        subprocess.Popen(unpack, stdin=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdin, mode="w|") as archive,
    ):
        for part in ("bin", "lib"):
            archive.add(folder / part, part, filter=_needed)
    assert process.returncode == 0
    listed = f"echo {place}/lib > /etc/ld.so.conf.d/other-python.conf && ldconfig"
    subprocess.run([*exec_command, "sh", "-c", listed], check=True)


def _needed(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Not the tests of Python itself, nor what only builds others."""
    unneeded = re.search(r"/(test|idle_test|__pycache__|site-packages|config-[^/]*)$|\.a$", member.name)
    return None if unneeded else member

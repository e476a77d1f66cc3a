"""Commits, archives and release ids from real Git repositories."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from zarpar import source
from zarpar.config import App, load_apps
from zarpar.errors import BadData


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, "-C", str(folder), *words], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    (folder / "app").mkdir(parents=True)
    (folder / "app" / "wsgi.py").write_text("app = 1\n")
    processes = "# web\nweb: gunicorn -w 4 shop.wsgi:create()\nrelease: flask db upgrade\n"
    (folder / "app" / "Procfile").write_text(processes)
    (folder / "other").write_text("x")
    git(folder, "init")
    git(folder, "add", "-A")
    git(folder, "commit", "-m", "First \x1b[31mversion")
    return folder


def make_app(**values: Any) -> App:
    return load_apps({"shop": {"domains": ["shop.example.com"], **values}})["shop"]


def resolve(tmp_path: Path, path: str, ref: str = "") -> source.Commit:
    return source.resolve("shop", make_app(source={"path": path}), tmp_path, ref)


def test_subfolder_of_a_checkout(tmp_path: Path, checkout: Path) -> None:
    found = resolve(tmp_path, "repo/app")
    assert found.wsgi == "shop.wsgi:create()"
    assert found.migrate == "flask db upgrade"
    assert "\x1b" not in found.subject
    with tarfile.open(fileobj=io.BytesIO(source.archive(found))) as tar:
        assert sorted(tar.getnames()) == ["Procfile", "wsgi.py"]


def test_same_input_same_id_and_bytes(tmp_path: Path, checkout: Path) -> None:
    app = make_app(source={"path": "repo/app"})
    first, again = resolve(tmp_path, "repo/app"), resolve(tmp_path, "repo/app")
    assert source.archive(first) == source.archive(again)
    assert source.release_id(app, first) == source.release_id(app, again)


def test_commit_elsewhere_is_no_new_release(tmp_path: Path, checkout: Path) -> None:
    app = make_app(source={"path": "repo/app"})
    before = source.release_id(app, resolve(tmp_path, "repo/app"))
    (checkout / "other").write_text("y")
    git(checkout, "commit", "-am", "Elsewhere")
    assert source.release_id(app, resolve(tmp_path, "repo/app")) == before
    (checkout / "app" / "wsgi.py").write_text("app = 2\n")
    assert resolve(tmp_path, "repo/app").dirty
    git(checkout, "commit", "-am", "Here")
    assert source.release_id(app, resolve(tmp_path, "repo/app")) != before


@pytest.mark.parametrize(
    "change",
    [
        {"env": {"A": "2"}},
        {"gunicorn": {"threads": 4}},
        {"build": ["make"]},
        {"database_password": "x"},
        {"redis": "cache"},
    ],
)
def test_changed_settings_are_a_new_release(tmp_path: Path, checkout: Path, change: dict[str, Any]) -> None:
    found = resolve(tmp_path, "repo/app")
    before = source.release_id(make_app(source={"path": "repo/app"}), found)
    assert source.release_id(make_app(source={"path": "repo/app"}, **change), found) != before


@pytest.mark.parametrize(
    "change",
    [
        {"processes": {"worker": {"command": "celery worker"}}},
        {"schedules": {"cleanup": {"command": "flask cleanup", "at": "daily"}}},
    ],
)
def test_changed_processes_are_a_new_release(tmp_path: Path, checkout: Path, change: dict[str, Any]) -> None:
    def released(**more: Any) -> str:
        app = make_app(source={"path": "repo/app"}, **more)
        return source.release_id(app, source.resolve("shop", app, tmp_path))

    assert released() != released(**change)
    assert released(**change) == released(**change)


def test_processes_of_the_procfile(tmp_path: Path, checkout: Path) -> None:
    lines = "web: gunicorn shop.wsgi:app\nworker: celery -A shop worker\nbeat: celery -A shop beat\n"
    (checkout / "app" / "Procfile").write_text(lines)
    git(checkout, "commit", "-am", "Workers")
    app = make_app(source={"path": "repo/app"}, processes={"worker": {"count": 2, "stop": 600}})
    found = source.resolve("shop", app, tmp_path)
    beat = 'celery -A shop beat --schedule "$ZARPAR_SHARED/celerybeat-schedule"'
    assert found.processes == [
        {"name": "beat", "command": beat, "count": 1, "stop": 300, "single": True},
        {"name": "worker", "command": "celery -A shop worker", "count": 2, "stop": 600, "single": False},
    ]
    again = source.Commit(**source.as_facts(found))  # type: ignore[arg-type]
    assert again == found


def test_wrong_procfile_is_refused_by_its_line(tmp_path: Path, checkout: Path) -> None:
    (checkout / "app" / "Procfile").write_text("web: gunicorn shop.wsgi:app\n\nworker celery\n")
    git(checkout, "commit", "-am", "Wrong")
    with pytest.raises(BadData, match=r"^apps\.shop: Procfile, line 3: is not `name: command`"):
        resolve(tmp_path, "repo/app")


def test_ref_that_does_not_exist(tmp_path: Path, checkout: Path) -> None:
    with pytest.raises(BadData, match=r"apps\.shop\.source\.ref: nope"):
        resolve(tmp_path, "repo/app", "nope")


def test_folder_that_is_no_checkout(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(BadData, match="not in a Git checkout") as caught:
        resolve(tmp_path, "plain")
    assert "git init" in caught.value.hint


def test_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"apps\.shop\.source\.path: there is no folder"):
        resolve(tmp_path, "missing")


def test_repository_address(tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    app = make_app(source={"repo": f"file://{checkout}", "ref": "main"})
    first = source.resolve("shop", app, tmp_path)
    (checkout / "more").write_text("y")
    git(checkout, "add", "-A")
    git(checkout, "commit", "-m", "More")
    second = source.resolve("shop", app, tmp_path)
    assert first.commit != second.commit
    with tarfile.open(fileobj=io.BytesIO(source.archive(second))) as tar:
        assert "more" in tar.getnames()


def test_repository_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(BadData, match=r"apps\.shop\.source\.repo: git cannot read"):
        source.resolve("shop", make_app(source={"repo": f"file://{tmp_path}/none.git"}), tmp_path)


def commit(checkout: Path, **files: str) -> None:
    for name, text in files.items():
        path = checkout / "app" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(checkout, "add", "-A")
    git(checkout, "commit", "-m", "Files")


def test_folder_of_a_repository(tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same release as of a local subfolder, but for the commit's place."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    app = make_app(source={"repo": f"file://{checkout}", "ref": "main", "folder": "app"})
    found, local = source.resolve("shop", app, tmp_path), resolve(tmp_path, "repo/app")
    assert (found.commit, found.tree, found.wsgi) == (local.commit, local.tree, "shop.wsgi:create()")
    assert source.archive(found) == source.archive(local)
    (checkout / "other").write_text("y")
    git(checkout, "commit", "-am", "Elsewhere")
    assert source.resolve("shop", app, tmp_path) == found


def test_folder_that_the_repository_lacks(tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    app = make_app(source={"repo": f"file://{checkout}", "ref": "main", "folder": "backend"})
    with pytest.raises(BadData, match=r"apps\.shop\.source\.folder: backend does not exist"):
        source.resolve("shop", app, tmp_path)


def test_asgi_by_the_web_line_unless_the_inventory_says_otherwise(tmp_path: Path, checkout: Path) -> None:
    assert resolve(tmp_path, "repo/app").worker_class == "gthread"
    commit(checkout, Procfile="web: uvicorn main:app --host 0.0.0.0 --port $PORT\r\nrelease: x\r\n")
    found = resolve(tmp_path, "repo/app")
    assert (found.wsgi, found.worker_class) == ("main:app", "uvicorn.workers.UvicornWorker")
    set_by_hand = make_app(source={"path": "repo/app"}, gunicorn={"worker_class": "asgi"})
    assert source.resolve("shop", set_by_hand, tmp_path).worker_class == "asgi"


@pytest.mark.parametrize(
    ("keys", "web", "served"),
    [
        ({"server": "granian"}, "gunicorn app:app", "granian:wsgi"),
        ({"server": "granian"}, "uvicorn app:app", "granian:asgi"),
        ({"server": "granian", "gunicorn": {"worker_class": "asgi"}}, "gunicorn app:app", "granian:asgi"),
        ({}, "granian --interface wsgi app:app", "granian:wsgi"),
        ({}, "granian --interface asgi app:app", "granian:asgi"),
        ({"server": "gunicorn"}, "granian --interface wsgi app:app", "gthread"),
        ({"server": "gunicorn"}, "granian --interface asgi app:app", "uvicorn.workers.UvicornWorker"),
        ({"gunicorn": {"worker_class": "gevent"}}, "granian --interface wsgi app:app", "gevent"),
    ],
)
def test_granian(tmp_path: Path, checkout: Path, keys: dict[str, Any], web: str, served: str) -> None:
    commit(checkout, Procfile=f"web: {web}\n")
    app = make_app(source={"path": "repo/app"}, **keys)
    assert source.resolve("shop", app, tmp_path).worker_class == served


def test_django_without_a_web_line(tmp_path: Path, checkout: Path) -> None:
    (checkout / "app" / "Procfile").unlink()
    manage = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'config.settings.local')\n"
    commit(checkout, manage_dot_py=manage)
    assert resolve(tmp_path, "repo/app").wsgi == "wsgi:app"
    commit(checkout, config__wsgi_dot_py="")
    assert resolve(tmp_path, "repo/app").wsgi == "config.wsgi:application"


def test_python_and_notes(tmp_path: Path, checkout: Path) -> None:
    assert [note for note in resolve(tmp_path, "repo/app").notes if "no dependencies" in note]
    commit(checkout, runtime_dot_txt="python-3.12.4\n", requirements_dot_txt="flask\n")
    found = resolve(tmp_path, "repo/app")
    assert (found.python, found.requires) == ("3.12", "")
    assert [note.split()[0] for note in found.notes] == ["runtime.txt", "requirements.txt"]
    commit(checkout, uv_dot_lock="", pyproject_dot_toml='[project]\nname = "x"\nrequires-python = ">=3.12"\n')
    (checkout / "app" / "runtime.txt").unlink()
    git(checkout, "commit", "-am", "No runtime")
    found = resolve(tmp_path, "repo/app")
    assert (found.python, found.requires, found.notes) == ("", ">=3.12", [])
    commit(checkout, Procfile="worker: rq worker --url $REDIS_URL\n")
    assert [note.split(":")[0] for note in resolve(tmp_path, "repo/app").notes] == [
        "worker has $REDIS_URL among its arguments"
    ]

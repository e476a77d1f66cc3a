"""What makes an environment another one, and what uv is told to put into it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from zarpar_host import venv
from zarpar_host.errors import HostError
from zarpar_host.state import Places

GRANIAN = "granian:wsgi"
GTHREAD, UVICORN, UVICORN_WORKER = "gthread", *venv.UVICORN
Calls = list[tuple[list[str], str]]


def key(tree: Path, python: str = "", tree_id: str = "t1", worker_class: str = GTHREAD) -> str:
    return venv.key_of(tree, python, tree_id, worker_class)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder


def test_what_the_key_depends_on(tree: Path) -> None:
    (tree / "requirements.txt").write_text("-r base.txt\n")
    (tree / "base.txt").write_text("gunicorn==27.0\n")
    before = key(tree)
    assert key(tree, tree_id="t2") == before  # code only
    others = {
        key(tree, python="3.12"),
        key(tree, python="3.12.4"),
        key(tree, worker_class=UVICORN),
        key(tree, worker_class=GRANIAN),
    }
    (tree / "base.txt").write_text("gunicorn==27.1\n")
    assert len({before, *others, key(tree)}) == 6


@pytest.mark.parametrize("name", ["uv.lock", "poetry.lock", "Pipfile.lock", "requirements.txt", "pyproject.toml"])
def test_each_file_counts(tree: Path, name: str) -> None:
    (tree / name).write_text("")
    before = key(tree)
    (tree / name).write_text("\n")
    assert key(tree) != before


def test_code_of_the_tree_is_installed_per_tree(tree: Path) -> None:
    (tree / "requirements.txt").write_text("-e .\n")
    assert key(tree, tree_id="t1") != key(tree, tree_id="t2")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What uv would be run with; an environment named below is as uv would have left it."""
    made: Calls = []

    def uv(_places: Places, _tree: Path, _venv: Path, argv: list[str], stdin: str = "") -> None:
        made.append((argv, stdin))

    monkeypatch.setattr(venv, "_uv", uv)
    monkeypatch.setattr(venv, "_markers", lambda *_words: {"python_full_version": "3.11.2", "sys_platform": "linux"})
    return made


def install(tree: Path, python: str = "") -> None:
    venv._install(Places("shop", tree), tree, tree / "venv", python)


def test_uv_lock(tree: Path, calls: Calls) -> None:
    (tree / "uv.lock").touch()
    (tree / "requirements.txt").write_text("never")
    install(tree, "3.12")
    (argv, _stdin), *others = calls
    assert not others
    assert argv[0] == "sync"
    assert {"--locked", "--no-dev", "--no-editable", "--no-install-project"} < set(argv)
    assert argv[argv.index("--python") + 1] == "3.12"


@pytest.mark.parametrize(
    ("text", "strict"), [("a==1\n", False), ("a==1 --hash=sha256:ab\n", True), ("-r b.txt\n", True)]
)
def test_requirements(tree: Path, calls: Calls, text: str, strict: bool) -> None:
    (tree / "requirements.txt").write_text(text)
    (tree / "b.txt").write_text("b==1 \\\n  --hash sha256:ab\n")
    install(tree)
    assert calls[0][0][:2] == ["venv", "--no-project"]
    assert venv.SYSTEM_PYTHON in calls[0][0]
    assert ("--require-hashes" in calls[1][0]) is strict
    assert "--no-editable" in calls[1][0]


def test_locks_of_others(tree: Path, calls: Calls) -> None:
    (tree / "Pipfile.lock").write_text('{"default": {"a": {"version": "==1", "hashes": ["sha256:ab"]}}}')
    install(tree)
    argv, stdin = calls[1]
    assert {"--no-deps", "--require-hashes"} < set(argv)
    assert argv[-2:] == ["-r", "-"]
    assert stdin == "a==1 --hash=sha256:ab\n"


def test_nothing_is_declared(tree: Path, calls: Calls) -> None:
    with pytest.raises(HostError, match="declares no dependencies"):
        install(tree)
    (tree / "Pipfile").touch()
    with pytest.raises(HostError, match=r"no Pipfile\.lock") as caught:
        install(tree)
    assert "pipenv lock" in caught.value.hint


def environment_with(tree: Path, *modules: str, python: str = "python3.12") -> Path:
    for module in modules:
        path = tree / "venv" / "lib" / python / "site-packages" / module
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix else path.mkdir(exist_ok=True)
    (tree / "venv" / "lib" / python).mkdir(parents=True, exist_ok=True)
    (tree / "venv" / "bin").mkdir(exist_ok=True)
    for server in ("gunicorn", "granian"):
        (tree / "venv" / "bin" / server).touch()  # as it is after uv, or after the app's own dependencies
    return tree / "venv"


@pytest.mark.parametrize(
    ("worker_class", "modules", "added"),
    [
        (GTHREAD, ["gunicorn"], []),
        (GTHREAD, [], ["gunicorn"]),
        (UVICORN, ["gunicorn", "uvicorn", "uvicorn/workers.py"], []),
        (UVICORN, ["uvicorn", "uvicorn/workers.py"], ["gunicorn"]),
        (UVICORN, ["gunicorn", "uvicorn"], ["uvicorn-worker"]),
        (UVICORN_WORKER, ["gunicorn", "uvicorn", "uvicorn_worker"], []),
        (UVICORN, ["gunicorn", "click"], ["uvicorn", "uvicorn-worker", "h11"]),
        ("gevent", ["gunicorn"], []),
        (GRANIAN, ["granian", "click"], []),
        (GRANIAN, ["gunicorn"], ["granian", "click"]),
        ("granian:asgi", ["click"], ["granian"]),
    ],
)
def test_servers_are_added(tree: Path, calls: Calls, worker_class: str, modules: list[str], added: list[str]) -> None:
    said: list[str] = []
    venv._serve(Places("shop", tree), tree, environment_with(tree, *modules), worker_class, said.append)
    assert [line.split("==")[0] for _argv, stdin in calls for line in stdin.splitlines()] == added
    assert all({"--no-deps", "--require-hashes"} < set(argv) for argv, _stdin in calls)
    assert ["added by Zarpar" in text for text in said] == [True] * bool(added)


def test_a_python_too_old_for_what_would_be_added(tree: Path, calls: Calls) -> None:
    folder = environment_with(tree, python="python3.9")
    (folder / "bin" / "gunicorn").unlink()
    say: Callable[[str], None] = [].append
    with pytest.raises(HostError, match="gunicorn is not among"):
        venv._serve(Places("shop", tree), tree, folder, GTHREAD, say)
    assert not calls


def test_uvicorns_worker_is_where_the_environment_has_it(tree: Path) -> None:
    folder = environment_with(tree, "uvicorn", "uvicorn/workers.py")
    assert venv.worker(folder, UVICORN_WORKER) == UVICORN
    environment_with(tree, "uvicorn_worker")
    assert venv.worker(folder, UVICORN) == UVICORN_WORKER
    assert venv.worker(folder, "gevent") == "gevent"

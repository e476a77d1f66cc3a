"""Lock files of Poetry and Pipenv as requirements, compared with what those tools export themselves (locks/)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from zarpar_host import locks
from zarpar_host.errors import HostError

LOCKS = Path(__file__).with_name("locks")


def environment(python: str = "3.11.2", **others: str) -> dict[str, str]:
    return {
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python,
        "implementation_name": "cpython",
        "implementation_version": python,
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_release": "6.1",
        "platform_system": "Linux",
        "platform_version": "#1",
        "sys_platform": "linux",
        **others,
    }


def parsed(text: str, where: dict[str, str]) -> dict[str, set[str]]:
    """name==version -> hashes, of the lines of a requirements file that count in an environment."""
    found = {}
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("-"):
            continue
        words = line.split("--hash=")
        wanted = Requirement(words[0].strip())
        if wanted.marker is None or wanted.marker.evaluate({**where, "extra": ""}):
            place = re.sub(r"^file://.*/libs/", "file:///TREE/libs/", wanted.url or "")
            found[f"{locks.normal(wanted.name)}{wanted.specifier}{place}"] = {word.strip() for word in words[1:]}
    return found


@pytest.mark.parametrize("platform", ["linux", "win32"])
@pytest.mark.parametrize(
    ("made_by", "python"),
    [
        (made_by, python)
        for made_by in ("poetry-1.8", "poetry-2", "pipenv")
        for python in ("3.9.20", "3.10.14", "3.11.2", "3.11.9", "3.13.5")
        if (made_by, python) != ("poetry-2", "3.9.20")  # its requires-python begins with 3.10
    ],
)
def test_as_the_tool_exports_it(made_by: str, python: str, platform: str) -> None:
    where = environment(python, sys_platform=platform, platform_system="Windows" if platform == "win32" else "Linux")
    read = locks.pipfile if made_by == "pipenv" else locks.poetry
    exported = parsed((LOCKS / made_by / "export.txt").read_text(), where)
    assert parsed(read(LOCKS / made_by, where).text, where) == exported
    assert "pytest" not in "".join(exported)
    assert len(exported) > 10


def test_hashes_are_demanded_where_all_are_there() -> None:
    assert locks.poetry(LOCKS / "poetry-1.8", environment()).hashed
    assert not locks.poetry(LOCKS / "poetry-2", environment()).hashed  # a package in the tree has none
    assert not locks.pipfile(LOCKS / "pipenv", environment()).hashed  # Pipenv locked no version of colorama


PYPROJECT = """
[tool.poetry]
name = "shop"
package-mode = false
[tool.poetry.dependencies]
python = "^3.9"
Celery = {version = "^5", extras = ["all"]}
[tool.poetry.dev-dependencies]
pytest = "*"
"""
OLD_LOCK = """
[[package]]
name = "Celery"
version = "5.2"
category = "main"
optional = false
python-versions = "*"
[package.dependencies]
kombu = ">=5"
redis = {version = ">=3", optional = true, markers = "extra == \\"redis\\""}
pymongo = {version = ">=3", optional = true}
uvloop = {version = "*", optional = true}
[package.extras]
redis = ["redis (>=3)"]
mongo = ["pymongo"]
all = ["celery[redis]", "uvloop"]

[[package]]
name = "kombu"
version = "5.1"
category = "main"
optional = false
python-versions = "*"
[package.dependencies]
celery = "*"
setuptools = "*"

[[package]]
name = "redis"
version = "4.0"
category = "main"
optional = true
python-versions = "*"

[[package]]
name = "uvloop"
version = "0.17"
category = "main"
optional = true
python-versions = "*"

[[package]]
name = "pymongo"
version = "4.0"
category = "main"
optional = true
python-versions = "*"

[[package]]
name = "pytest"
version = "7.0"
category = "dev"
optional = false
python-versions = "*"

[metadata]
lock-version = "1.1"
[metadata.files]
Celery = [{file = "c.whl", hash = "sha256:aa"}]
kombu = [{file = "k.whl", hash = "sha256:bb"}]
redis = [{file = "r.whl", hash = "sha256:cc"}]
uvloop = [{file = "u.whl", hash = "sha256:dd"}]
"""


def tree_with(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        path = tmp_path / name.replace("_dot_", ".").replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_poetry_1_1_with_extras_of_extras_and_a_circle(tmp_path: Path) -> None:
    found = locks.poetry(tree_with(tmp_path, pyproject_dot_toml=PYPROJECT, poetry_dot_lock=OLD_LOCK), environment())
    assert found.lines == [
        "Celery==5.2 --hash=sha256:aa",
        "kombu==5.1 --hash=sha256:bb",
        "redis==4.0 --hash=sha256:cc",
        "uvloop==0.17 --hash=sha256:dd",
    ]
    assert found.hashed


def package(name: str, source: str) -> str:
    head = f'[[package]]\nname = "{name}"\nversion = "1.0"\npython-versions = "*"\ngroups = ["main"]\n'
    return f'{head}files = [{{file = "x", hash = "sha256:ab"}}]\n[package.source]\n{source}\n'


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (
            'type = "git"\nurl = "https://x.org/a.git"\nresolved_reference = "c0ffee"',
            "a @ git+https://x.org/a.git@c0ffee",
        ),
        ('type = "git"\nurl = "git@x.org:me/a.git"\nreference = "c0"', "a @ git+ssh://git@x.org/me/a.git@c0"),
        (
            'type = "git"\nurl = "https://x.org/a"\nresolved_reference = "c0"\nsubdirectory = "lib"',
            "a @ git+https://x.org/a@c0#subdirectory=lib",
        ),
        ('type = "url"\nurl = "https://x.org/a.whl"', "a @ https://x.org/a.whl --hash=sha256:ab"),
        ('type = "file"\nurl = "libs/a b.whl"', "a @ file://TREE/libs/a%20b.whl --hash=sha256:ab"),
        ('type = "directory"\nurl = "libs"', "a @ file://TREE/libs"),
        ('type = "legacy"\nurl = "https://x.org/simple"\nreference = "x"', "a==1.0 --hash=sha256:ab"),
    ],
)
def test_poetry_sources(tmp_path: Path, source: str, line: str) -> None:
    tree = tree_with(tmp_path, poetry_dot_lock=package("a", source), pyproject_dot_toml="")
    (tree / "libs").mkdir()
    (tree / "libs" / "a b.whl").touch()
    found = locks.poetry(tree, environment())
    assert found.lines == [line.replace("TREE", str(tree))]
    assert found.indexes == (["https://x.org/simple"] if "legacy" in source else [])
    assert found.hashed is ("hash" in line)
    assert locks.has_local_code(tree) is ("TREE" in line)


@pytest.mark.parametrize("place", ["../outside", "/etc", "libs/missing"])
def test_what_the_release_does_not_hold_is_refused(tmp_path: Path, place: str) -> None:
    lock = package("a", f'type = "directory"\nurl = "{place}"')
    with pytest.raises(HostError, match="not part of the release"):
        locks.poetry(tree_with(tmp_path, poetry_dot_lock=lock), environment())


def test_a_marker_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    lock = package("a", 'type = "git"').replace("files", "markers = \"weather == 'x'\"\nfiles")
    with pytest.raises(HostError, match=r"poetry\.lock: .*weather"):
        locks.poetry(tree_with(tmp_path, poetry_dot_lock=lock), environment())


def test_markers_by_group(tmp_path: Path) -> None:
    lock = package("a", 'type = "git"\nurl = "https://x.org/a"\nreference = "c0"')
    by_group = lock.replace("files", "markers = {main = \"python_version < '3.10'\", dev = \"os_name == 'nt'\"}\nfiles")
    tree = tree_with(tmp_path, poetry_dot_lock=by_group)
    assert locks.poetry(tree, environment("3.9.1")).lines
    assert not locks.poetry(tree, environment("3.11.2")).lines


def test_a_stale_lock_is_refused(tmp_path: Path) -> None:
    declares = '[project]\ndependencies = ["a>=1", "New_Thing[x]>2"]\n'
    tree = tree_with(tmp_path, pyproject_dot_toml=declares, poetry_dot_lock=package("a", 'type = "git"\nurl = "u"'))
    with pytest.raises(HostError, match=r"poetry\.lock does not know New_Thing") as caught:
        locks.poetry(tree, environment())
    assert "poetry lock" in caught.value.hint
    tree = tree_with(tmp_path, Pipfile='[packages]\nflask = "*"\n', Pipfile_dot_lock='{"default": {}}')
    with pytest.raises(HostError, match=r"Pipfile\.lock does not know flask"):
        locks.pipfile(tree, environment())


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ({"version": "==1.0", "hashes": ["sha256:ab"], "extras": ["x"]}, "a==1.0 --hash=sha256:ab"),
        ({"version": "==1.0", "markers": "python_version < '3.9'"}, ""),
        ({"version": "*"}, "a"),
        ({"git": "https://x.org/a.git", "ref": "c0ffee"}, "a @ git+https://x.org/a.git@c0ffee"),
        ({"file": "https://x.org/a.whl", "hashes": ["sha256:ab"]}, "a @ https://x.org/a.whl --hash=sha256:ab"),
        ({"path": "./libs", "editable": True}, "a @ file://TREE/libs"),
    ],
)
def test_pipfile_entries(tmp_path: Path, entry: dict[str, Any], line: str) -> None:
    sources = [{"url": "https://pypi.org/simple"}, {"url": "https://x.org/simple"}]
    lock = json.dumps({"_meta": {"sources": sources}, "default": {"a": entry}, "develop": {"b": {"version": "==2"}}})
    tree = tree_with(tmp_path, Pipfile_dot_lock=lock)
    (tree / "libs").mkdir()
    found = locks.pipfile(tree, environment())
    assert found.lines == ([line.replace("TREE", str(tree))] if line else [])
    assert found.text.startswith("--extra-index-url https://x.org/simple\n")
    assert locks.has_local_code(tree) is ("path" in entry)


def test_pipenvs_name_for_what_has_none(tmp_path: Path) -> None:
    tree = tree_with(tmp_path, Pipfile_dot_lock='{"default": {"e1839a8": {"path": ".", "editable": true}}}')
    assert locks.pipfile(tree, environment()).lines == [f"file://{tree}"]


@pytest.mark.parametrize("name", ["--index-url", "a b", "a\n--pre", ""])
def test_a_hostile_name_is_refused(tmp_path: Path, name: str) -> None:
    tree = tree_with(tmp_path, Pipfile_dot_lock=json.dumps({"default": {name: {"version": "==1"}}}))
    with pytest.raises(HostError, match="not understood"):
        locks.pipfile(tree, environment())
    tree = tree_with(tmp_path, Pipfile_dot_lock=json.dumps({"default": {"a": {"version": "==1\n--pre"}}}))
    with pytest.raises(HostError, match="not understood"):
        locks.pipfile(tree, environment())


def test_which_file_counts(tmp_path: Path) -> None:
    names = ["uv.lock", "poetry.lock", "Pipfile.lock", "requirements.txt", "pyproject.toml", "Pipfile"]
    for expected, missing in zip([*names[:-1], ""], range(6), strict=True):
        assert locks.chosen(set(names[missing:])) == expected


def test_included_requirements(tmp_path: Path) -> None:
    tree = tree_with(
        tmp_path / "tree",
        requirements_dot_txt="-r requirements/prod.txt\n--constraint=limits.txt\nflask\n",
        requirements__prod_dot_txt="-r base.txt\n-rbase.txt\n-r ../../outside.txt\n",
        requirements__base_dot_txt="-r ../requirements.txt\n",
        limits_dot_txt="",
    )
    (tmp_path / "outside.txt").touch()
    names = [path.relative_to(tree).as_posix() for path in locks.requirement_files(tree / "requirements.txt")]
    assert names == ["requirements.txt", "requirements/prod.txt", "limits.txt", "requirements/base.txt"]


@pytest.mark.parametrize(
    ("line", "local"),
    [
        ("-e .", True),
        (".", True),
        ("./libs/a", True),
        ("-e ./libs/a", True),
        ("../a", True),
        ("a @ file:///x", True),
        (".[web]", True),
        ("flask==3.0", False),
        ("-e git+https://x.org/a.git#egg=a", False),
        ("# -e .", False),
        ("a @ https://x.org/a.whl", False),
        ("-r other.txt", False),
    ],
)
def test_local_code_in_requirements(tmp_path: Path, line: str, local: bool) -> None:
    assert locks.has_local_code(tree_with(tmp_path, requirements_dot_txt=f"gunicorn\n{line}\n")) is local


BUILD = '[build-system]\nrequires = []\nbuild-backend = "{}"\n'


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"uv_dot_lock": "", "pyproject_dot_toml": BUILD.format("hatchling.build")}, True),
        ({"uv_dot_lock": "", "pyproject_dot_toml": "[project]\nname = 'x'"}, False),
        ({"uv_dot_lock": "", "pyproject_dot_toml": "[tool.uv]\npackage = true"}, True),
        ({"requirements_dot_txt": "", "pyproject_dot_toml": BUILD.format("hatchling.build")}, False),
        ({"poetry_dot_lock": "", "pyproject_dot_toml": BUILD.format("poetry.core.masonry.api")}, False),
        (
            {
                "poetry_dot_lock": "",
                "pyproject_dot_toml": BUILD.format("poetry.core.masonry.api") + '[tool.poetry]\nname = "my-shop"\n',
                "src__my_shop____init___dot_py": "",
            },
            True,
        ),
        (
            {
                "poetry_dot_lock": "",
                "pyproject_dot_toml": BUILD.format("poetry.core.masonry.api")
                + '[tool.poetry]\nname = "shop"\npackage-mode = false\n',
                "shop_dot_py": "",
            },
            False,
        ),
        ({"Pipfile_dot_lock": "{}", "pyproject_dot_toml": BUILD.format("hatchling.build")}, False),
    ],
)
def test_is_the_app_itself_installed(tmp_path: Path, files: dict[str, str], expected: bool) -> None:
    tree = tree_with(tmp_path, **{name.replace("____", "__"): text for name, text in files.items()})
    assert locks.is_package(tree) is expected
    assert locks.has_local_code(tree) is expected


def test_local_code_in_a_lock_of_uv(tmp_path: Path) -> None:
    tree = tree_with(tmp_path, uv_dot_lock='source = { virtual = "." }\n', pyproject_dot_toml="")
    assert not locks.has_local_code(tree)
    tree_with(tmp_path, uv_dot_lock='source = { virtual = "." }\nsource = { editable = "libs/a" }\n')
    assert locks.has_local_code(tree)

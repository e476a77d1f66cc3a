"""What a tree's lock file says is to be installed, as requirements with hashes. Reads files; runs nothing.

uv reads its own lock and requirements.txt; those of Poetry and Pipenv are turned into requirements here, so that
neither has to be on the host. Both name everything that is needed, so uv installs without looking for more.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlparse

from zarpar_host.errors import HostError
from zarpar_host.versions import holds, key, satisfies

# The first that is there counts.
ORDER = ("uv.lock", "poetry.lock", "Pipfile.lock", "requirements.txt", "pyproject.toml")
PYPI = re.compile(r"https?://(pypi\.org|pypi\.python\.org)/simple/?")
INCLUDE = re.compile(r"^\s*(?:-r|-c|--requirement|--constraint)[ =]*(\S+)")
LOCAL_LINE = re.compile(
    r"^\s*(?:(?:-e|--editable)[ =]*(?!git\+)\S|\.{0,2}/|\.\s*(?:$|\[|;|#)|(?:[\w.-]+(?:\[.*\])?\s*@\s*)?file:)"
)
LOCAL_SOURCE = {
    "uv.lock": re.compile(r"source = \{ (?:editable|directory|path) = "),
    "poetry.lock": re.compile(r"^type = \"(?:directory|file)\"", re.MULTILINE),
    "Pipfile.lock": re.compile(r"\"(?:path|file)\": \"(?!https?:)"),
}


@dataclass
class Locked:
    """What is to be installed: lines of a requirements file, and whether each of them has its hashes."""

    lines: list[str] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)
    hashed: bool = True

    @property
    def text(self) -> str:
        """The requirements file."""
        return "\n".join([*(f"--extra-index-url {url}" for url in self.indexes), *self.lines, ""])

    def take(self, name: str, what: str, hashes: list[str]) -> None:
        """Add a package: `what` is ==version, " @ address", or nothing. Pipenv names what has no name by a hash."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or re.search(r"[\x00-\x1f\x7f\\]", what):
            raise HostError(
                f"the lock file names a package in a way that is not understood: {name[:60]!r}", kind="build"
            )
        known = [text for text in hashes if re.fullmatch(r"[a-z0-9]+:[0-9a-f]+", text)]
        self.hashed = self.hashed and bool(known)
        nameless = what.startswith(" @ ") and re.fullmatch(r"[0-9a-f]{7}", name)
        first = what.removeprefix(" @ ") if nameless else f"{name}{what}"
        self.lines.append(" ".join([first, *(f"--hash={text}" for text in known)]))

    def index(self, url: str) -> None:
        """Add a package index, unless it is the default one (which the host may have replaced)."""
        if url and not PYPI.fullmatch(url) and url not in self.indexes and not re.search(r"\s", url):
            self.indexes.append(url)


def chosen(names: Mapping[str, Any] | set[str]) -> str:
    """Which of a tree's files says what to install; empty when none does."""
    return next((name for name in ORDER if name in names), "")


def of_tree(tree: Path) -> str:
    """Which file of a tree on disk says what to install."""
    return chosen({name for name in ORDER if (tree / name).is_file()})


def requirement_files(path: Path) -> list[Path]:
    """A requirements file and those that it includes, however deep, each once; none that is outside its folder."""
    root, found, waiting = path.parent.resolve(), [], [path.resolve()]
    while waiting:
        here = waiting.pop(0)
        if here in found or not here.is_file() or not here.is_relative_to(root):
            continue
        found.append(here)
        included = (INCLUDE.match(line) for line in here.read_text(errors="replace").splitlines())
        waiting += [(here.parent / match.group(1)).resolve() for match in included if match]
    return found


def files(tree: Path) -> list[Path]:
    """The files whose content decides what is installed; uv reads its settings from the last two."""
    name = of_tree(tree)
    first = requirement_files(tree / name) if name == "requirements.txt" else [tree / name] if name else []
    others = [tree / other for other in ("pyproject.toml", "uv.toml") if (tree / other).is_file()]
    return list(dict.fromkeys([*first, *others]))


def has_local_code(tree: Path) -> bool:
    """Whether what is installed holds code of the tree itself, so that each tree needs an environment of its own."""
    name = of_tree(tree)
    if name == "requirements.txt":
        texts = [path.read_text(errors="replace") for path in requirement_files(tree / name)]
        return any(LOCAL_LINE.match(line) for text in texts for line in text.splitlines())
    if name in LOCAL_SOURCE and LOCAL_SOURCE[name].search((tree / name).read_text(errors="replace")):
        return True
    return is_package(tree)


def is_package(tree: Path) -> bool:
    """Whether the app itself is installed too: pyproject.toml makes it a package of the tool whose file counts."""
    name = of_tree(tree)
    if name not in ("uv.lock", "poetry.lock", "pyproject.toml") or not (tree / "pyproject.toml").is_file():
        return False
    project = toml(tree / "pyproject.toml")
    if name == "poetry.lock":
        return _is_poetry_package(tree, project)
    wanted = project.get("tool", {}).get("uv", {}).get("package")
    return bool(wanted) if wanted is not None else "build-system" in project


def _is_poetry_package(tree: Path, project: dict[str, Any]) -> bool:
    """Whether Poetry would install the app: not by package-mode, and it finds the code (else people say --no-root)."""
    poetry = project.get("tool", {}).get("poetry", {})
    backend = str(project.get("build-system", {}).get("build-backend", ""))
    if poetry.get("package-mode") is False or not backend:
        return False
    if "poetry" not in backend or poetry.get("packages"):
        return True
    name = re.sub(r"[-.]+", "_", str(poetry.get("name") or project.get("project", {}).get("name") or ""))
    places = (tree, tree / "src")
    return bool(name) and any((place / name).is_dir() or (place / f"{name}.py").is_file() for place in places)


def toml(path: Path) -> dict[str, Any]:
    """A TOML file of the app's. Raises HostError when it cannot be read."""
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HostError(f"{path.name} cannot be read: {error}", kind="build") from error


def normal(name: str) -> str:
    """A package's name as indexes spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def poetry(tree: Path, environment: Mapping[str, str]) -> Locked:
    """Poetry's main group, for an environment (of marker names). Raises HostError for a lock that does not fit."""
    lock = toml(tree / "poetry.lock")
    project = toml(tree / "pyproject.toml") if (tree / "pyproject.toml").is_file() else {}
    packages: list[dict[str, Any]] = lock.get("package", [])
    _require_fresh({normal(str(package["name"])) for package in packages}, _poetry_direct(project), "poetry.lock")
    old_files = lock.get("metadata", {}).get("files", {})
    locked = Locked()
    try:
        if any("groups" in package for package in packages):
            wanted = [package for package in packages if _in_main(package, environment)]
        else:
            wanted = _walk(packages, project, environment)
    except ValueError as error:
        raise HostError(f"poetry.lock: {error}", kind="build") from error
    for package in wanted:
        name, version = str(package["name"]), str(package["version"])
        hashes = [str(one.get("hash", "")) for one in package.get("files") or old_files.get(name, [])]
        source = package.get("source", {})
        url = str(source.get("url", ""))
        kind = source.get("type", "")
        if kind == "git":
            commit = str(source.get("resolved_reference") or source.get("reference", ""))
            locked.take(name, _git(url, commit, str(source.get("subdirectory", ""))), [])
        elif kind in ("directory", "file"):
            locked.take(name, _inside(tree, url), hashes if kind == "file" else [])
        elif kind == "url":
            locked.take(name, f" @ {url}", hashes)
        else:
            locked.index(url)
            locked.take(name, f"=={version}", hashes)
    return locked


def _in_main(package: dict[str, Any], environment: Mapping[str, str]) -> bool:
    """Poetry 2: each package names its groups, and the markers under which they need it."""
    markers = package.get("markers", "")
    if isinstance(markers, dict):
        markers = markers.get("main", "")
    return "main" in package.get("groups", []) and holds(str(markers), environment)


def _poetry_direct(project: dict[str, Any]) -> dict[str, Any]:
    """pyproject.toml's own dependencies, by name, but for Python and those of extras."""
    declared: dict[str, Any] = {}
    for line in project.get("project", {}).get("dependencies", []):
        match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", str(line))
        if match:
            declared[match.group(1)] = "*"
    for name, wanted in project.get("tool", {}).get("poetry", {}).get("dependencies", {}).items():
        if normal(name) != "python" and not (isinstance(wanted, dict) and wanted.get("optional")):
            declared[name] = wanted
    return declared


@dataclass(frozen=True)
class _Edge:
    """One package's wish for another."""

    name: str
    version: str
    extras: frozenset[str]


def _walk(
    packages: list[dict[str, Any]], project: dict[str, Any], environment: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Poetry before 2: the lock does not say what development alone needs, so follow the app's own dependencies."""
    known: dict[str, list[dict[str, Any]]] = {}
    for package in packages:
        known.setdefault(normal(str(package["name"])), []).append(package)
    waiting = list(_edges(_poetry_direct(project), frozenset(), frozenset(), environment))
    seen: set[_Edge] = set()
    found: dict[int, dict[str, Any]] = {}
    while waiting:
        edge = waiting.pop()
        if edge in seen:
            continue
        seen.add(edge)
        best = _best(known.get(edge.name, []), edge.version, environment)
        if best is None:
            continue  # pip, setuptools and the like, which Poetry did not lock
        found[packages.index(best)] = best
        extras, names = _of_extras(best, edge.extras)
        waiting += _edges(best.get("dependencies", {}), extras, names, environment)
    return [found[number] for number in sorted(found)]


def _edges(
    dependencies: dict[str, Any], extras: frozenset[str], names: frozenset[str], environment: Mapping[str, str]
) -> Iterator[_Edge]:
    """The dependencies that count in this environment; optional ones when a wanted extra names them."""
    for name, entries in dependencies.items():
        for entry in entries if isinstance(entries, list) else [entries]:
            wish = entry if isinstance(entry, dict) else {"version": entry}
            if wish.get("optional") and normal(name) not in names:
                continue
            python, platform = str(wish.get("python", "*")), wish.get("platform")
            if not satisfies(environment["python_full_version"], python):
                continue
            if platform and platform != environment["sys_platform"]:
                continue
            marker = str(wish.get("markers", ""))
            if any(holds(marker, {**environment, "extra": extra}) for extra in extras or {""}):
                more = frozenset(str(extra) for extra in wish.get("extras", []))
                yield _Edge(normal(name), str(wish.get("version", "*")), more)


def _of_extras(package: dict[str, Any], extras: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Some extras of a package with those of the same package that they mean, and the names of what they need."""
    own, names = normal(str(package["name"])), set()
    offered = {normal(extra): lines for extra, lines in package.get("extras", {}).items()}
    waiting, seen = [normal(extra) for extra in extras], set()
    while waiting:
        extra = waiting.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for line in offered.get(extra, []):
            match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?", str(line))
            if match and normal(match.group(1)) == own:
                waiting += [normal(more.strip()) for more in (match.group(2) or "").split(",")]
            elif match:
                names.add(normal(match.group(1)))
    return extras | seen, frozenset(names)


def _best(packages: list[dict[str, Any]], wanted: str, environment: Mapping[str, str]) -> dict[str, Any] | None:
    """The one of a package's locked versions that is meant: it fits the wish and the Python, and is the newest."""
    if len(packages) < 2:
        return packages[0] if packages else None
    python = environment["python_full_version"]
    fitting = [one for one in packages if satisfies(str(one["version"]), wanted)] or packages
    fitting = [one for one in fitting if satisfies(python, str(one.get("python-versions", "*")))] or fitting
    return max(fitting, key=lambda one: key(str(one["version"])) or ())


def pipfile(tree: Path, environment: Mapping[str, str]) -> Locked:
    """Pipfile.lock's `default` section, for an environment. Raises HostError for a lock that does not fit."""
    try:
        lock = json.loads((tree / "Pipfile.lock").read_text())
    except ValueError as error:
        raise HostError(f"Pipfile.lock cannot be read: {error}", kind="build") from error
    packages: dict[str, dict[str, Any]] = lock.get("default", {})
    if (tree / "Pipfile").is_file():
        declared = toml(tree / "Pipfile").get("packages", {})
        _require_fresh({normal(name) for name in packages}, declared, "Pipfile.lock")
    locked = Locked()
    for source in lock.get("_meta", {}).get("sources", []):
        locked.index(str(source.get("url", "")))
    for name, entry in packages.items():
        try:
            if not holds(str(entry.get("markers", "")), environment):
                continue
        except ValueError as error:
            raise HostError(f"Pipfile.lock: {error}", kind="build") from error
        hashes = [str(text) for text in entry.get("hashes", [])]
        place = str(entry.get("path") or entry.get("file") or "")
        if "git" in entry:
            locked.take(
                name, _git(str(entry["git"]), str(entry.get("ref", "")), str(entry.get("subdirectory", ""))), []
            )
        elif re.match(r"https?://", place):
            locked.take(name, f" @ {place}", hashes)
        elif place:
            locked.take(name, _inside(tree, place), hashes)
        else:
            version = str(entry.get("version", "*"))
            locked.take(name, "" if version == "*" else version, hashes)
    return locked


def _require_fresh(locked: set[str], declared: Mapping[str, Any], file: str) -> None:
    """A lock that does not know a declared dependency is older than the declaration."""
    missing = sorted(name for name in declared if normal(name) not in locked)
    if missing:
        tool = "poetry lock" if file == "poetry.lock" else "pipenv lock"
        raise HostError(
            f"{file} does not know {', '.join(missing[:3])}: it is older than what declares it",
            hint=f"Run `{tool}`, commit {file}, and deploy again.",
            kind="build",
        )


def _git(url: str, commit: str, folder: str) -> str:
    short = re.fullmatch(r"(?:([\w.-]+)@)([\w.-]+):(?!//)(.+)", url)  # git@host:path
    address = f"ssh://{short.group(1)}@{short.group(2)}/{short.group(3)}" if short else url.removeprefix("git+")
    return f" @ git+{address}@{commit}" + (f"#subdirectory={folder}" if folder else "")


def _inside(tree: Path, place: str) -> str:
    """The address of something in the tree. Raises HostError for what a release does not hold."""
    text = unquote(urlparse(place).path) if place.startswith("file:") else place
    path = (tree / text).resolve()
    if not path.is_relative_to(tree.resolve()) or not path.exists():
        raise HostError(
            f"the lock file wants {place}, which is not part of the release",
            hint="A release holds the app's folder only: move that package into it, or publish it.",
            kind="build",
        )
    return f" @ file://{quote(str(path))}"

"""What the roles write for given apps, rendered as the action plugins do it; and the skeletons of what is written.

The skeleton of a file is what its reader makes of it, without the values: nginx's directives with the number of their
words, a unit's sections and keys, a Python file's assignments. A value that changes a skeleton was not literal.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from support.roles import _load_plugins
from zarpar import config, manifest
from zarpar.actions import ROOT, ZarparAction

ROLES = sorted(path.parent.name for path in (ROOT / "roles").glob("*/manifest.yml"))
HOST = {
    "distribution": "debian",
    "version": 13,
    "codename": "trixie",
    "arch": "x86_64",
    "cpus": 2,
    "memory_mb": 4096,
    "swap_mb": 0,
    "disk_free_mb": 9999,
    "inodes_free": 99_999,
    "python": "3.13",
    "python_full": "3.13.5",
    "hostname": "one",
    "container": False,
    "ipv6": True,
    "postgres_version": 17,
}
INVENTORY: dict[str, Any] = {
    "inventory_hostname": "two",
    "inventory_dir": "/nowhere",
    "groups": {"all": ["one", "two"], "web": ["one"], "db": ["two"], "redis": ["two"]},
    "hostvars": {"one": {"ansible_host": "192.0.2.1"}, "two": {"ansible_host": "192.0.2.2"}},
}


class Renderer(ZarparAction):
    """An action plugin without a task and a connection: what needs a host cannot be called."""

    def __init__(self, variables: Mapping[str, Any] | None = None) -> None:
        _load_plugins()
        loader = DataLoader()
        super().__init__(None, None, None, loader, Templar(loader, variables=dict(variables or {})), None)


class _WithApps(Renderer):
    """One whose apps are known."""

    def __init__(self, apps: Mapping[str, config.App], variables: Mapping[str, Any]) -> None:
        super().__init__(variables)
        self._apps = dict(apps)

    def apps(self, _task_vars: Mapping[str, Any]) -> dict[str, config.App]:
        return self._apps


def rendered(
    apps: Mapping[str, config.App],
    variables: Mapping[str, Any] | None = None,
    roles: Sequence[str] = ROLES,
) -> list[dict[str, Any]]:
    """All items of the roles' manifests, in order; but for `postgres`, whose values become SQL and no file."""
    task_vars = {**INVENTORY, **(variables or {})}
    action = _WithApps(apps, task_vars)
    scope = action.scope(task_vars, HOST)
    found = []
    for role in roles:
        folder = ROOT / "roles" / role
        found += manifest.items(action, folder, manifest.role_variables(folder, task_vars) | scope)
    return [item for item in found if "postgres" not in item]


# -- skeletons -------------------------------------------------------------------------------------------------


def nginx(text: str) -> list[tuple[int, str, int, int]]:
    """Depth, name, number of words and number of variables of each directive. Raises ValueError for broken text."""
    found, words, depth = [], [], 0
    for piece in _nginx_pieces(text):
        if piece in (";", "{"):
            if not words:
                raise ValueError(f"{piece} without a directive")
            name = "a quoted word" if words[0].startswith("=") else words[0]
            found.append((depth, name, len(words), sum(word.count("$") for word in words)))
            words = []
            depth += piece == "{"
        elif piece == "}":
            if words or not depth:
                raise ValueError("} in a wrong place")
            depth -= 1
        else:
            words.append(piece)
    if words or depth:
        raise ValueError("the text ends within a directive or a block")
    return found


def _nginx_pieces(text: str) -> Iterator[str]:
    """nginx's own rules (ngx_conf_read_token), but that a quoted word is never taken for punctuation."""
    position = 0
    while position < len(text):
        char = text[position]
        if char.isspace():
            position += 1
        elif char == "#":
            end = text.find("\n", position)
            position = len(text) if end < 0 else end
        elif char in ";{}":
            yield char
            position += 1
        elif char in "\"'":
            end = position + 1
            while text[end] != char:
                end += 2 if text[end] == "\\" else 1
            yield f"={text[position + 1 : end]}"
            position = end + 1
            if text[position] not in " \t\r\n;{)":
                raise ValueError("text right behind a quoted word")
        else:
            end = position
            while end < len(text) and not text[end].isspace() and text[end] not in ";{":
                end += 2 if text[end] == "\\" else 1
                if text[end - 1 : end + 1] == "${":
                    end += 1
            yield text[position:end]
            position = end


def unit(text: str) -> list[tuple[str, str]]:
    """Section and key of each line of a systemd unit, lines that go on joined; specifiers and variables count."""
    found, section = [], ""
    for line in re.sub(r"\\\n", " ", text).split("\n"):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("["):
            section = line
            found.append((section, ""))
            continue
        key, equals, value = line.partition("=")
        if not equals or not section:
            raise ValueError(f"not a line of a unit: {line!r}")
        found.append((section, f"{key} %{value.count('%')} ${value.count('$')} words {len(value.split())}"))
    return found


def python(text: str) -> list[str]:
    """The statements of gunicorn.conf.py: assignments, of what kind, to which names."""
    return [f"{type(node).__name__} {_python_value(node)}" for node in ast.parse(text).body]


def _python_value(node: ast.stmt) -> str:
    if isinstance(node, ast.Assign):
        names = ",".join(ast.dump(target) for target in node.targets)
        try:
            return f"{names} = {type(ast.literal_eval(node.value)).__name__}"
        except ValueError:
            return f"{names} = {ast.dump(node.value)}"
    return ast.dump(node)


def words(text: str) -> list[int]:
    """The number of words in each line; comments too, since a line end in one is an injected line."""
    return [len(line.split()) for line in text.split("\n")]


def lines(text: str) -> list[bool]:
    """Which lines are comments."""
    return [line.lstrip().startswith("#") for line in text.split("\n")]


def names(text: str) -> list[str]:
    """What is before the equals sign of each line."""
    return [line.partition("=")[0] for line in text.split("\n")]


def settings(text: str) -> list[str]:
    """PostgreSQL's: the name of each line, and how its value is quoted."""
    found = []
    for line in text.split("\n"):
        match = re.fullmatch(r"(?:(\w+) = ('[^'\\]*'|[\w.-]+))?\s*(?:#.*)?", line)
        if not match:
            raise ValueError(f"not a setting: {line!r}")
        found.append(match.group(1) or "")
    return found


# The first pattern that fits counts. A file that none fits may hold no value of a person: it must stay the same.
READERS: dict[str, Callable[[str], Any]] = {
    "/etc/nginx/*.conf": nginx,
    "/etc/systemd/system/*": unit,
    "/etc/systemd/journald.conf.d/*": unit,
    "*.conf.py": python,
    "/etc/logrotate.d/*": words,
    "*/pg_hba.conf": words,
    "/etc/sudoers.d/*": words,
    "/etc/zarpar/firewall.nft": words,
    "/etc/zarpar/redis/*": words,
    "*/authorized_keys": lines,
    "/etc/postgresql/*.conf": settings,
    "/etc/zarpar/uv.env": names,
    "/opt/zarpar/uv/requirements.txt": lambda text: [line.split(" ")[0] for line in text.split("\n")],
    "/etc/timezone": words,
    "/etc/zarpar/acme-ca.pem": lambda _text: "a file of the controller",
}


def skeleton(items: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Items with their contents as skeletons, and all other texts as the number of their lines."""
    return [_of_item(item) for item in items]


def _of_item(item: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: _shape(value) for key, value in item.items() if key != "content"}
    if "content" in item:
        found["content"] = _content(str(item["file"]), item["content"])
    return found


def _content(path: str, text: str) -> Any:
    reader = next((reader for pattern, reader in READERS.items() if fnmatch(path, pattern)), None)
    return reader(text) if reader else text


def _shape(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _shape(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_shape(entry) for entry in value]
    if isinstance(value, str):
        # an argument or a path: one line, never an option that was none, never another folder
        climbs = "://" not in value and "/../" in value
        return ("text", len(value.splitlines()), value.startswith("-"), climbs, "\x00" in value)
    return value

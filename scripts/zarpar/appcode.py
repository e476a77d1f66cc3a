"""What an app's Python code says of itself, read with `ast`: nothing of the app is imported or run. Pure reading."""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

KINDS = {
    "Flask": "flask",
    "get_wsgi_application": "django",
    "get_asgi_application": "asgi",
    "FastAPI": "asgi",
    "Quart": "asgi",
    "Starlette": "asgi",
    "Litestar": "asgi",
}
CALLABLES = ("app", "application", "server", "api")
FACTORIES = ("create_app", "make_app", "create_application", "build_app")
# Where a web app's entry usually is, the likeliest first; `*` is a package of the checkout.
PLACES = (
    "wsgi.py", "app.py", "main.py", "application.py", "server.py", "run.py", "asgi.py", "*/wsgi.py", "*/app.py",
    "*/main.py", "*/__init__.py", "*/application.py", "*/factory.py", "*/server.py", "*/asgi.py",
)  # fmt: skip
ROUTERS = frozenset({"route", "get", "path", "re_path", "url", "add_url_rule", "add_api_route", "api_route", "Route"})
TYPES = frozenset({"str", "bool", "int", "list", "url", "json"})
READERS = frozenset({"getenv", "config", "env"})
PASSED_OVER = frozenset(
    {"venv", "env", "node_modules", "site-packages", "tests", "test", "testing", "migrations", "build", "dist", "docs"}
    | {"inventories"}
)
MOST_FILES, LARGEST = 400, 500_000


@dataclass(frozen=True)
class Entry:
    """Something that a server can load: `module:callable`, or `module:factory()`; kind: flask, django, asgi or ''."""

    module: str
    name: str
    kind: str
    file: str

    @property
    def loaded_as(self) -> str:
        """What gunicorn is told."""
        return f"{self.module}:{self.name}"


@dataclass(frozen=True)
class Read:
    """An environment variable that the code reads, where, and whether it cannot do without."""

    where: str
    required: bool


@dataclass
class Code:
    """All that was found. static: URL prefix to folder."""

    entries: list[Entry] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    routes: set[str] = field(default_factory=set)
    reads: dict[str, Read] = field(default_factory=dict)
    static: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)  # file -> its source
    readers: set[str] = field(default_factory=set)  # functions of the code that read what their argument names


def read(folder: Path) -> Code:
    """Read the Python files of a checkout; one that cannot be parsed is passed over."""
    code = Code()
    modules = list(_modules(folder))
    code.readers = {name for _file, tree, _text in modules for name in _own_readers(tree)}
    for name, tree, text in modules:
        code.texts[name] = text
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                _take_call(code, folder, name, node)
            elif isinstance(node, ast.Subscript) and _last(node.value) == "environ":
                _take_read(code, name, node, node.slice, required=isinstance(node.ctx, ast.Load))
        code.entries += _entries(name, tree)
    code.entries = _sorted(code)
    return code


def settings_values(text: str) -> dict[str, ast.expr]:
    """The values that a module (such as Django's settings) gives to names at its top level."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            return {}
    return {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def folder_of(value: ast.expr | None) -> str:
    """The folder below the checkout that a setting means: "x", BASE_DIR / "x" or os.path.join(BASE_DIR, "x")."""
    if isinstance(value, ast.Constant):
        return str(value.value)
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Div) and isinstance(value.right, ast.Constant):
        left = folder_of(value.left) if isinstance(value.left, ast.BinOp) else ""
        return f"{left}/{value.right.value!s}".lstrip("/")
    if isinstance(value, ast.Call) and _last(value.func) in ("join", "str", "Path"):
        parts = [folder_of(argument) for argument in value.args]
        return "/".join(part for part in parts if part)
    return ""


def _modules(folder: Path) -> Iterator[tuple[str, ast.Module, str]]:
    """The checkout's modules by their paths, in order, at most MOST_FILES of them."""
    left = MOST_FILES
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in PASSED_OVER and not name.startswith("."))
        for name in sorted(names):
            path = Path(here) / name
            if not name.endswith(".py") or path.is_symlink() or path.stat().st_size > LARGEST:
                continue
            left -= 1
            if left < 0:
                return
            text = path.read_text(errors="replace")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    tree = ast.parse(text)
                except (SyntaxError, ValueError):
                    continue
            yield path.relative_to(folder).as_posix(), tree, text


def _take_call(code: Code, folder: Path, name: str, call: ast.Call) -> None:
    called = _last(call.func)
    if called in KINDS:
        code.kinds.add(KINDS[called])
    if called == "Flask":
        _take_flask_static(code, folder, name, call)
    elif called == "mount":
        _take_mount(code, folder, call)
    if called in ROUTERS and call.args and isinstance(call.args[0], ast.Constant):
        route = str(call.args[0].value).removeprefix("^").removesuffix("$")
        code.routes.add("/" + route.lstrip("/"))
    if not call.args:
        return
    if isinstance(call.func, ast.Attribute) and called in TYPES and _last(call.func.value) in ("env", "config"):
        called = "env"  # env.list("X") of django-environ and environs
    if called in code.readers:
        _take_read(code, name, call, call.args[0], required=len(call.args) == 1)
    elif called in READERS or (called == "get" and isinstance(call.func, ast.Attribute) and _is_environ(call.func)):
        lone = len(call.args) == 1 and not any(word.arg == "default" for word in call.keywords)
        _take_read(code, name, call, call.args[0], required=lone and called in ("config", "env"))


def _own_readers(tree: ast.Module) -> Iterator[str]:
    """Functions such as `def required(name): return os.environ[name]`."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef) or not function.args.args:
            continue
        first = function.args.args[0].arg
        for node in ast.walk(function):
            looked_up = node.slice if isinstance(node, ast.Subscript) and _last(node.value) == "environ" else None
            if isinstance(node, ast.Call) and node.args and isinstance(node.func, ast.Attribute | ast.Name):
                asks = _last(node.func) == "getenv" or (isinstance(node.func, ast.Attribute) and _is_environ(node.func))
                looked_up = node.args[0] if asks else None
            if isinstance(looked_up, ast.Name) and looked_up.id == first:
                yield function.name
                break


def _is_environ(function: ast.Attribute) -> bool:
    return _last(function.value) == "environ"


def _take_read(code: Code, file: str, node: ast.expr, what: ast.expr, *, required: bool) -> None:
    if not isinstance(what, ast.Constant) or not isinstance(what.value, str):
        return
    name = what.value
    if not name.isidentifier() or name != name.upper():
        return
    before = code.reads.get(name)
    if before is None or (required and not before.required):
        code.reads[name] = Read(f"{file}:{node.lineno}", required)


def _take_flask_static(code: Code, folder: Path, file: str, call: ast.Call) -> None:
    """The folder that Flask itself would serve: `static` beside the module, unless the call says otherwise."""
    said = {word.arg: _text(word.value) for word in call.keywords}
    if said.get("static_folder", "static") is None or said.get("static_url_path", "") is None:
        return  # computed, or None: served otherwise or not at all
    below = PurePosixPath(file).parent / str(said.get("static_folder", "static"))
    url = str(said.get("static_url_path") or "/" + below.name)
    if (folder / below).is_dir():
        code.static.setdefault(f"/{url.strip('/')}/", below.as_posix())


def _take_mount(code: Code, folder: Path, call: ast.Call) -> None:
    """app.mount("/static", StaticFiles(directory="static")), as FastAPI and Starlette have it."""
    if len(call.args) < 2 or not isinstance(call.args[1], ast.Call) or _last(call.args[1].func) != "StaticFiles":
        return
    url, files = _text(call.args[0]), call.args[1]
    places = [word.value for word in files.keywords if word.arg == "directory"] + files.args[:1]
    below = _text(places[0]) if places else None
    if url and url.strip("/") and below and (folder / below).is_dir():
        code.static.setdefault(f"/{url.strip('/')}/", PurePosixPath(below).as_posix())


def _entries(file: str, tree: ast.Module) -> Iterator[Entry]:
    """What a server could load from one module, in the order of the module."""
    module = _module_name(file)
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call | ast.Name | ast.Attribute):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            kind = KINDS.get(_last(node.value.func), "") if isinstance(node.value, ast.Call) else ""
            for name in names:
                if kind or name in CALLABLES[:2]:
                    yield Entry(module, name, kind, file)
        elif isinstance(node, ast.ImportFrom) and file in ("wsgi.py", "asgi.py", "main.py", "run.py"):
            for alias in node.names:
                if (alias.asname or alias.name) in CALLABLES[:2]:
                    yield Entry(module, alias.asname or alias.name, "", file)
        elif isinstance(node, ast.FunctionDef) and node.name in FACTORIES and _callable_plainly(node):
            yield Entry(module, f"{node.name}()", "", file)


def _callable_plainly(function: ast.FunctionDef) -> bool:
    """Whether a function can be called without arguments."""
    return len(function.args.args) == len(function.args.defaults)


def _module_name(file: str) -> str:
    parts = list(PurePosixPath(file).with_suffix("").parts)
    if parts[0] == "src" and len(parts) > 1:
        parts = parts[1:]
    if parts[-1] == "__init__" and len(parts) > 1:
        parts = parts[:-1]
    return ".".join(parts)


def _sorted(code: Code) -> list[Entry]:
    """The entries in usual places, the likeliest first; where all the code is of one kind, each is."""
    only = next(iter(code.kinds)) if len(code.kinds) == 1 else ""
    found = []
    for entry in code.entries:
        place = _place(entry.file)
        if place is not None:
            kind = entry.kind or only
            found.append((place, entry.name.endswith("()"), Entry(entry.module, entry.name, kind, entry.file)))
    return [entry for _place, _factory, entry in sorted(found, key=lambda one: one[:2])]


def _place(file: str) -> int | None:
    path = PurePosixPath(file.removeprefix("src/"))
    general = path.name if len(path.parts) == 1 else f"*/{path.name}" if len(path.parts) == 2 else ""
    return PLACES.index(general) if general in PLACES else None


def _last(node: ast.expr) -> str:
    """The last part of a dotted name: `environ` of os.environ."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def first_route(routes: set[str], wanted: Sequence[str]) -> str:
    """The first of the wanted routes that the app has, with or without a final slash; empty when it has none."""
    for route in wanted:
        for form in (route, f"{route}/"):
            if form in routes:
                return form
    return ""

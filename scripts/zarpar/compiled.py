"""Keeps what Jinja compiled of templates, in memory and on disk, as Python does with its modules.

Ansible compiles every text each time it is rendered, which costs more than all else of a run with nothing to do.
The keys are the texts and all that matters to the compiler: a changed template is another key.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
from pathlib import Path
from types import CodeType
from typing import Any

from jinja2 import __version__ as jinja_version
from jinja2.bccache import Bucket, FileSystemBytecodeCache

SETTINGS = ("trim_blocks", "lstrip_blocks", "newline_sequence", "keep_trailing_newline")


def remember() -> None:
    """Have Ansible's environments compile each text once. Does nothing where Ansible is not built as we know it."""
    try:
        from ansible._internal._templating._jinja_bits import AnsibleEnvironment, _TemplateCompileContext
        from ansible.release import __version__ as ansible_version
    except ImportError:
        return
    compile_anew = AnsibleEnvironment.compile
    if hasattr(compile_anew, "__wrapped__"):  # done already in this process
        return
    disk = _disk()
    memory: dict[str, Any] = {}

    @functools.wraps(compile_anew)
    def compile_once(self: Any, source: Any, *more: Any, **options: Any) -> Any:
        context = _TemplateCompileContext.current(optional=True)
        if not isinstance(source, str) or more or options:
            return compile_anew(self, source, *more, **options)
        settings = [str(getattr(self, name)) for name in SETTINGS]
        parts = [ansible_version, jinja_version, str(context and context.escape_backslashes), *settings, source]
        key = hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()
        if key not in memory:
            kept = _read(disk, self, key) if disk else None
            memory[key] = kept or compile_anew(self, source)
            if disk and not kept:
                _write(disk, self, key, memory[key])
        return memory[key]

    AnsibleEnvironment.compile = compile_once


def _read(disk: FileSystemBytecodeCache, environment: Any, key: str) -> CodeType | None:
    """The code that was kept; None for none, and for a file that is not whole (any error may come of it)."""
    bucket = Bucket(environment, key, key)
    with contextlib.suppress(Exception):
        disk.load_bytecode(bucket)
        return bucket.code
    return None


def _write(disk: FileSystemBytecodeCache, environment: Any, key: str, code: CodeType) -> None:
    bucket = Bucket(environment, key, key)
    bucket.code = code
    with contextlib.suppress(OSError):  # a full disk is no reason to fail
        disk.dump_bytecode(bucket)


def _disk() -> FileSystemBytecodeCache | None:
    """The folder that is kept, this user's alone; None where it cannot be had."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "zarpar" / f"templates-{sys.implementation.cache_tag}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return None
    if status.st_uid != os.geteuid() or status.st_mode & 0o022 or not os.access(folder, os.W_OK):
        return None
    return FileSystemBytecodeCache(str(folder))

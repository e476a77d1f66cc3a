"""Sent over the connection when a host does not have this version of zarpar-host: checks, installs, runs.

Standard input: one line of JSON {program: {file: text}, hash, install, require_supported}, then the request.
With install false (check mode) the program runs from a temporary folder and nothing stays on the host.
"""

import compileall
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

LIBRARY = pathlib.Path("/usr/local/lib/zarpar")
LAUNCHER = pathlib.Path("/usr/local/sbin/zarpar-host")


def unpack(program: dict[str, str], folder: pathlib.Path) -> None:
    """Write the program's files into folder, compiled."""
    for name, text in program.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    compileall.compile_dir(str(folder), quiet=2)


def install(program: dict[str, str], version: str) -> pathlib.Path:
    """Put the program in place under its hash, in one rename, and point the launcher at it."""
    target = LIBRARY / version
    LIBRARY.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not target.exists():
        folder = pathlib.Path(tempfile.mkdtemp(dir=LIBRARY, prefix=".new-"))
        unpack(program, folder)
        folder.chmod(0o755)
        os.sync()
        try:
            folder.rename(target)
        except OSError:  # another run was quicker
            shutil.rmtree(folder, ignore_errors=True)
    launcher = LAUNCHER.with_suffix(".new")
    launcher.write_text(f'#!/bin/sh\nexec /usr/bin/python3 -I -S {target} "$@"\n')
    launcher.chmod(0o755)
    launcher.rename(LAUNCHER)
    versions = sorted(LIBRARY.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime)
    for old in versions[:-3]:
        if old != target:
            shutil.rmtree(old, ignore_errors=True)
    return target


def main() -> int:
    """Install (or unpack for once), check the system, and run the verb with the rest of the input."""
    os.umask(0o022)
    head = json.loads(sys.stdin.buffer.readline())
    with tempfile.TemporaryDirectory(prefix="zarpar-") as temporary:
        trial = pathlib.Path(temporary)
        unpack(head["program"], trial)
        sys.path.insert(0, str(trial))
        from zarpar_host import errors, facts

        try:
            facts.require_supported()
        except errors.HostError as error:
            print(json.dumps({"failed": True, "msg": error.summary, "hint": error.hint, "kind": error.kind}))
            return 1
        folder = install(head["program"], head["hash"]) if head["install"] else trial
        rest = sys.stdin.buffer.read()
        argv = ["/usr/bin/python3", "-I", "-S", str(folder), head["verb"]]
        return subprocess.run(argv, input=rest, check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())

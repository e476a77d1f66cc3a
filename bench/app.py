"""The app that is deployed: a copy of the example in a Git repository of its own, whose commits are its releases."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from bench.process import quiet

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "notes"
# A release with other dependencies takes one of these, none twice, of a small package without dependencies.
EXTRA = "humanize"
EXTRA_VERSIONS = tuple(f"4.{minor}.0" for minor in range(12, 0, -1))
# What the load is measured on: answers that need no database, and say which code they come from.
HELLO = """

MARK = "start"


@app.get("/hello")
def hello() -> str:
    return MARK


@app.get("/slow")
def slow() -> str:
    time.sleep(0.5)
    return MARK
"""


@dataclass(frozen=True)
class App:
    """One copy of the app, in `folder`."""

    folder: Path

    @classmethod
    def create(cls, folder: Path, *, hello: bool = False) -> App:
        """Copy the example and commit it; `hello` adds two addresses that answer without the database."""
        listed = quiet(["git", "ls-files"], cwd=EXAMPLE)
        for entry in listed.splitlines():
            (folder / entry).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(EXAMPLE / entry, folder / entry)
        app = cls(folder)
        if hello:
            wsgi = folder / "wsgi.py"
            wsgi.write_text(wsgi.read_text().replace("from notes", "import time\n\nfrom notes") + HELLO)
        app._git("init", "--quiet", "--initial-branch=main")
        app._commit("The example app")
        return app

    def head(self) -> str:
        """The commit that is released next: eight digits."""
        return self._git("rev-parse", "HEAD").strip()[:8]

    def change_code(self, number: int) -> str:
        """Commit a change of code only, and return the commit."""
        with (self.folder / "notes" / "__init__.py").open("a") as file:
            file.write(f"# change {number}\n")
        entry = self.folder / "wsgi.py"
        entry.write_text(re.sub('MARK = ".*"', f'MARK = "change {number}"', entry.read_text()))
        return self._commit(f"Change {number}")

    def change_dependencies(self, version: str, locks: Path) -> str:
        """Commit a change of the locked dependencies, and return the commit.

        A version is resolved once for all contenders, and kept in the folder `locks`.
        """
        wanted = self.folder / "pyproject.toml"
        lines = [line for line in wanted.read_text().splitlines() if f'"{EXTRA}=' not in line]
        lines.insert(lines.index("dependencies = [") + 1, f'  "{EXTRA}=={version}",')
        wanted.write_text("\n".join(lines) + "\n")
        known = locks / version
        if not known.exists():
            quiet(["uv", "lock", "--quiet", "--project", str(self.folder)])
            shutil.copy(self.folder / "uv.lock", known)
        shutil.copy(known, self.folder / "uv.lock")
        return self._commit(f"{EXTRA} {version}")

    def _commit(self, subject: str) -> str:
        self._git("add", "-A")
        self._git("commit", "--quiet", "--message", subject)
        return self.head()

    def _git(self, *words: str) -> str:
        identity = ["-c", "user.name=Bench", "-c", "user.email=bench@example.test"]
        return quiet(["git", *identity, "-C", str(self.folder), *words])

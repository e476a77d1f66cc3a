"""What the items of one manifest share while it is applied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from zarpar_host.files import Transaction

Item = dict[str, Any]


@dataclass
class Context:
    """check: only look. changed_paths: files changed by this run, in order. diff: of the item at hand.

    ahead: packages that later manifests of the same deploy begin with, after the files that these read when they are
    installed; they come along when apt runs anyway.
    """

    check: bool
    transaction: Transaction
    ahead: list[Item] = field(default_factory=list)
    changed_paths: list[Path] = field(default_factory=list)
    touched_units: dict[str, str] = field(default_factory=dict)
    diff: dict[str, str] | None = None

    def will_change(self, path: Path) -> None:
        """Note a change of path, and keep what it was."""
        if not self.check:
            self.transaction.remember(path)
        self.changed_paths.append(path)

    def changed_any(self, patterns: list[str]) -> bool:
        """Whether this run changed a path that matches one of the patterns (`*` matches across `/`)."""
        return any(fnmatch(str(path), pattern) for path in self.changed_paths for pattern in patterns)


Handler = Callable[[Context, Item], bool]

"""The limit: one shell script over one SSH connection."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.contenders.base import BENCH, Contender, render
from bench.lab import Lab, Line


class Shell(Contender):
    """`bench/shell/deploy.sh`: checks before it does, a virtual environment per release, a plain restart."""

    name = "shell"

    def __init__(self, lab: Lab, host: str) -> None:
        super().__init__(lab, host)
        render(self.folder / "files")

    def aim(self, line: Line) -> None:
        (self.folder / "ssh_config").write_text(line.ssh_config())

    def command(self, verb: str) -> Sequence[str]:
        script = str(BENCH / "shell" / "deploy.sh")
        return [
            script,
            str(self.folder / "ssh_config"),
            self.host,
            str(self.folder / "files"),
            str(self.app.folder),
            verb,
        ]

    def changed(self, text: str) -> int | None:
        found = re.search(r"^changed=(\d+)$", text, re.MULTILINE)
        return int(found[1]) if found else None

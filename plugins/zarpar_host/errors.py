"""The one exception family of zarpar-host."""

from __future__ import annotations


class HostError(Exception):
    """A failure that a person can act on.

    summary: one line, what failed and where; detail: output worth reading; hint: the next thing to do;
    kind: a word for programs (see docs/ARCHITECTURE.md, "Results").
    """

    def __init__(self, summary: str, *, detail: str = "", hint: str = "", kind: str = "failed") -> None:
        super().__init__(summary)
        self.summary = summary
        self.detail = detail
        self.hint = hint
        self.kind = kind

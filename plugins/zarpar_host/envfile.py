"""The form of systemd's EnvironmentFile: written so that every value comes back as it was, whatever it holds."""

from __future__ import annotations

from collections.abc import Mapping

ESCAPED = '"\\`$'


def dump(values: Mapping[str, str]) -> str:
    """One NAME="value" a line; values may hold newlines, quotes, %, $ and backslashes."""
    return "".join(f'{name}="{_escape(value)}"\n' for name, value in values.items())


def _escape(value: str) -> str:
    return "".join("\\" + char if char in ESCAPED else char for char in value)


def parse(text: str) -> dict[str, str]:
    """What `dump` wrote (and nothing else: not the whole of systemd's syntax)."""
    values: dict[str, str] = {}
    position = 0
    while position < len(text):
        name, _, _ = text[position:].partition("=")
        position += len(name) + 2
        value = []
        while text[position] != '"':
            if text[position] == "\\":
                position += 1
            value.append(text[position])
            position += 1
        values[name] = "".join(value)
        position += 2
    return values

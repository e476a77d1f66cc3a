"""Keeps secrets out of what is told of an app: its own output may hold them, above all when it fails."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

HIDDEN = "****"
SHORTEST = 6  # what is shorter is found in too many innocent words
SECRET_NAME = re.compile(r"SECRET|PASSW|TOKEN|PRIVATE|CREDENTIAL|SALT|SIGNING|AUTH|(^|_)(PASS|KEY|DSN|URL)$", re.I)
LOGIN = re.compile(r"(?<!ssh)(://)[^/\s@]+@")


def logins(text: str) -> str:
    """A text without the logins in its addresses."""
    return LOGIN.sub(rf"\1{HIDDEN}@", text)


def mask(text: str, environment: Mapping[str, str]) -> str:
    """A text without the values of an app's environment whose names sound like secrets, and without logins."""
    secrets = {part for name, value in environment.items() if SECRET_NAME.search(name) for part in _parts(value)}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return logins(text)


def _parts(value: str) -> Iterator[str]:
    """A value as programs print it: as it is, as Python and JSON quote it, line by line; of an address the password."""
    texts = [value, *value.splitlines()]
    if "://" in value:
        try:
            password = urlsplit(value).password or ""
        except ValueError:
            password = ""
        texts = [password, unquote(password)]  # an address itself is no secret
    for text in texts:
        for form in (text, repr(text)[1:-1], json.dumps(text)[1:-1]):
            if len(form.strip()) >= SHORTEST:
                yield form.strip()

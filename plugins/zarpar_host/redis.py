"""REDIS_URL with the password that this host made for an app's Redis, where the inventory gives none."""

from __future__ import annotations

import re
from pathlib import Path

from zarpar_host.errors import HostError

MADE = "etc/zarpar/redis/{}.made.acl"  # by role redis, once


def whole_url(app: str, url: str, root: Path = Path("/")) -> str:
    """The URL that the app gets: as it came, when it has a password, else with this host's own.

    Raises HostError when this host has made none: the role has not been here.
    """
    login = f"//{app}:"
    if f"{login}@" not in url:
        return url
    path = root / MADE.format(app)
    found = re.search(r" >([A-Za-z0-9]+) ", path.read_text()) if path.is_file() else None
    if found is None:
        raise HostError(f"the Redis of {app} is not set up on this host", hint="Set it up: zarpar provision ENV")
    return url.replace(f"{login}@", f"{login}{found.group(1)}@", 1)

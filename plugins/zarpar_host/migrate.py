"""Migrations: in the new release, with its environment, before any host switches; once for each release."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from zarpar_host import envfile
from zarpar_host.errors import HostError
from zarpar_host.releases import command_run, settings_of
from zarpar_host.state import Places, load, locked, record, save

LIMIT = 3600


def migrate(request: dict[str, Any], root: Path = Path("/")) -> dict[str, Any]:
    """Run a prepared release's migration command, as the app's user. request: app (its name), release, by.

    Nothing to do when the release has none or has run it already. A failure leaves the old release serving.
    """
    places = Places(request["app"], root)
    release = request["release"]
    with locked(places, request.get("by", ""), "migrate"):
        settings = settings_of(places, release)
        state = load(places)
        if not settings["migrate"] or state.releases[release].get("migrated"):
            return {"outcome": "unchanged", "changed": False}
        started = time.monotonic()
        values = envfile.parse(places.environment(release).read_text())
        try:
            output = command_run(
                settings["migrate"], places.app, places.release(release) / "src", values, LIMIT, "migrate"
            )
        except HostError as error:
            error.hint = error.hint or "The release that was live still serves. Mend the migration and deploy again."
            record(places, "migration failed", release=release, by=request.get("by", ""))
            raise
        state.note(release, migrated=True)
        save(places, state)
        record(places, "migrated", release=release, seconds=round(time.monotonic() - started, 2))
    return {"outcome": "migrated", "changed": True, "detail": output}

"""A world with one host and one app, which is what most tests need."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.load import Load
from support.world import App, Done, World, until
from zarpar import lab

APP = "notes"


@dataclass
class Site:
    """One app on one host. `base` is the commit of the app that is known to be good."""

    world: World
    app: App
    host: str
    domain: str
    base: str
    secret: str = ""
    first: Done | None = None
    began: float = 0.0  # monotonic

    @property
    def url(self) -> str:
        return f"https://{self.domain}"

    def serving(self) -> str:
        """The release that answers a visitor over verified HTTPS."""
        return self.world.serving(self.host, self.domain)

    def live(self) -> str:
        """The release that the host's own record calls live."""
        return self.world.live(self.host, APP)

    def on_host(self, *argv: str, stdin: str = "", check: bool = True) -> str:
        return self.world.run_on(self.host, *argv, stdin=stdin, check=check)

    def settle(self) -> None:
        """Wait until no release is watched and no old one is drained or removed any more: files come and go no more."""
        units = ("systemctl", "list-units", "--plain", "--no-legend", "zarpar-watch-*", "zarpar-drain-*")
        until(lambda: not self.on_host(*units), 120, "the last releases are watched to their end")

    def load(self, *, slow: bool = False) -> Load:
        """Visitors of this site."""
        return Load(self.world.hosts[self.host]["address"], self.domain, self.world.root_certificate, slow=slow)

    def again(self, *, limit: float = 120) -> Done:
        """Deploy until it ends well, as a person does who reads "locked" and waits; within `limit` s."""
        begin = time.monotonic()
        done = self.world.deploy()
        while done.code != 0 and "is being deployed by" in done.err and time.monotonic() - begin < limit:
            done = self.world.deploy()
        assert done.code == 0, str(done)
        assert self.serving().startswith(self.app.head()), str(done)
        return done

    def mend(self) -> Done:
        """Commit the good tree again, and deploy it."""
        self.app.reset(self.base)
        return self.again()

    def heal(self) -> None:
        """Make the host serve the good tree, whatever an earlier test left."""
        lab.start(self.host)
        lab.restore_network(self.host)
        with contextlib.suppress(AssertionError, OSError):
            same = not self.app.git("diff", "--stat", self.base, "HEAD")
            if same and self.serving() == self.live() and self.serving().startswith(self.app.head()):
                return
        self.mend()


def make_site(
    folder: Path,
    *,
    name: str,
    host: str,
    address: str,
    domain: str,
    more_names: Sequence[str] = (),
    secret: str = "",
    **keys: Any,
) -> Site:
    """Describe it on disk; no host is made yet."""
    hosts = {host: {"address": address, "names": [domain, *more_names]}}
    world = World(folder, name, hosts, web=[host], db=[host])
    app = world.add_app(APP, [domain], **keys)
    if secret:
        world.keep_secret({"vault_notes_secret_key": secret})
        world.apps[APP]["env"] = {**world.apps[APP]["env"], "SECRET_KEY": "{{ vault_notes_secret_key }}"}
    world.write()
    return Site(world, app, host, domain, app.head(), secret)

"""Whether a host is on one whole release: record, link, slot file, unit and answer agree."""

from __future__ import annotations

from support.site import APP, Site
from support.world import until

PATIENCE = 180  # seconds: a host that nobody confirmed goes back after 60


def settled(site: Site, *, limit: float = PATIENCE) -> str:
    """Wait until no switch is open and a whole release serves; return the release."""
    until(lambda: not _is_open(site), limit, "an unconfirmed switch ends by itself")
    release: str = until(lambda: _serving(site), limit, "a whole release serves")
    check_whole(site)
    return release


def check_whole(site: Site) -> None:
    """Assert that everything on the host tells of the same release."""
    live = site.world.state(site.host, APP)["live"]
    assert site.on_host("readlink", f"/srv/{APP}/live").strip() == f"slots/{live['slot']}"
    tree = site.on_host("readlink", "-f", f"/srv/{APP}/live/tree").strip()
    assert tree == f"/srv/{APP}/releases/{live['release']}/src"
    slot_file = site.on_host("readlink", "-f", f"/etc/zarpar/apps/{APP}/slots/{live['slot']}").strip()
    assert slot_file == f"/etc/zarpar/apps/{APP}/env/{live['release']}"
    unit = f"zarpar-{APP}@{live['slot']}.service"
    assert site.on_host("systemctl", "is-active", unit, check=False).strip() == "active"
    assert site.serving() == live["release"]


def _is_open(site: Site) -> bool:
    """Whether a switch waits for its confirm, or may still come: the host goes on when its controller is gone."""
    if _at_work(site):
        return True
    pending = site.world.state(site.host, APP)["pending"]
    return bool(pending and not pending["confirmed"])


def _at_work(site: Site) -> bool:
    """Whether zarpar-host works at a verb of a deploy."""
    listed = site.on_host("pgrep", "--full", "--list-full", "/usr/local/lib/zarpar/", check=False)
    words = [line.split()[1:] for line in listed.splitlines()]
    return any(each[0].endswith("python3") and not {"watch", "drain", "recover"} & set(each) for each in words)


def _serving(site: Site) -> str:
    """The release that serves and is the recorded one; empty while there is none."""
    try:
        release = site.serving()
    except (OSError, AssertionError, ValueError):
        return ""
    return release if release == site.live() else ""

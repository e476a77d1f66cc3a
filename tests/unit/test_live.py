"""The live link: one rename switches socket, tree and previous tree together."""

from __future__ import annotations

import socket
from pathlib import Path

from zarpar_host import live
from zarpar_host.state import Live, Places


def seen(places: Places) -> tuple[str, str, str]:
    base = places.home / "live"
    return tuple(str((base / name).readlink()) for name in ("socket", "tree", "previous"))  # type: ignore[return-value]


def test_point_switches_and_is_idempotent(tmp_path: Path) -> None:
    places = Places("shop", tmp_path)
    places.home.mkdir(parents=True)
    assert live.point(places, Live("one", "blue"), "")
    assert not live.point(places, Live("one", "blue"), "")
    before = seen(places)
    assert before[0] == str(tmp_path / "run/zarpar/shop-blue/gunicorn.sock")
    assert live.point(places, Live("two", "green"), "one")
    assert seen(places) == (
        str(tmp_path / "run/zarpar/shop-green/gunicorn.sock"),
        str(places.release("two") / "src"),
        str(places.release("one") / "src"),
    )
    assert live.point(places, Live("one", "blue"), "")
    assert seen(places) == before
    scheduled = places.slot_file("live")
    assert str(scheduled.readlink()) == str(places.environment("one")), "schedules run in the live release"
    assert live.points_to(places, Live("one", "blue"))
    assert not live.points_to(places, Live("two", "green"))
    assert live.point(places, None, "")
    assert not (places.home / "live").is_symlink()
    assert not scheduled.is_symlink()
    assert not live.points_to(places, Live("one", "blue"))
    assert not live.point(places, None, "")


def test_damaged_slot_folder_is_made_right(tmp_path: Path) -> None:
    places = Places("shop", tmp_path)
    places.home.mkdir(parents=True)
    live.point(places, Live("one", "blue"), "")
    (places.home / "slots/blue/tree").unlink()
    assert live.point(places, Live("one", "blue"), "")
    assert seen(places)[1].endswith("/one/src")


def test_connections_are_counted_through_the_link(tmp_path: Path) -> None:
    """nginx connects by the link's path; the kernel's table shows the socket's own."""
    real, link = tmp_path / "real.sock", tmp_path / "link"
    link.symlink_to(real)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(real))
        server.listen()
        assert live.connections(real) == 0
        client.connect(str(link))
        waiting = live.connections(real)
        accepted, _ = server.accept()
        with accepted:
            assert live.connections(real) == 1
        assert waiting == 1  # also while it waits to be accepted
    assert live.connections(real) == 0

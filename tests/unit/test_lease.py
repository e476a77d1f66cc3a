"""One deploy at a time: the lease, its end by itself, and what the loser is told."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from zarpar_host import lease
from zarpar_host.errors import HostError
from zarpar_host.state import Places


def request(token: str, **more: Any) -> dict[str, Any]:
    return {"app": "shop", "lease": token, "by": f"{token}@laptop", "commit": "abc", **more}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(lease, "_now", lambda: now[0])
    return now


def test_loser_is_told_who_holds_it(tmp_path: Path) -> None:
    lease.lock(request("one"), tmp_path)
    with pytest.raises(HostError, match=r"being deployed by one@laptop .*commit abc") as caught:
        lease.lock(request("two"), tmp_path)
    assert caught.value.kind == "locked"
    lease.unlock(request("two"), tmp_path)  # another's is not given back
    with pytest.raises(HostError):
        lease.lock(request("two"), tmp_path)
    lease.unlock(request("one"), tmp_path)
    lease.lock(request("two"), tmp_path)


def test_dead_owner_frees_it_within_the_lease(tmp_path: Path, clock: list[float]) -> None:
    lease.lock(request("one"), tmp_path)
    clock[0] += lease.SECONDS - 1
    lease.renew(request("one"), tmp_path)
    clock[0] += lease.SECONDS - 1
    with pytest.raises(HostError):
        lease.lock(request("two"), tmp_path)
    clock[0] += 2
    lease.lock(request("two"), tmp_path)
    assert lease.renew(request("one"), tmp_path)["outcome"] == "lost"
    assert lease.renew(request("two"), tmp_path)["outcome"] == "renewed"
    with pytest.raises(HostError, match="two@laptop"):  # the old owner is stopped at its next call
        lease.hold(Places("shop", tmp_path), request("one"))


def test_call_without_a_token_needs_the_app_free(tmp_path: Path, clock: list[float]) -> None:
    places = Places("shop", tmp_path)
    lease.hold(places, {"app": "shop"})
    lease.lock(request("one"), tmp_path)
    with pytest.raises(HostError):
        lease.hold(places, {"app": "shop"})


def test_only_lock_takes_a_lease(tmp_path: Path) -> None:
    """A call that found nothing to prepare has no heartbeat: it must not leave a lease behind."""
    lease.hold(Places("shop", tmp_path), request("one"))
    lease.lock(request("two"), tmp_path)


def test_damaged_file_frees_it(tmp_path: Path) -> None:
    lease.lock(request("one"), tmp_path)
    (tmp_path / "run/zarpar/shop.lease").write_text("{")
    lease.lock(request("two"), tmp_path)


def _try(arguments: tuple[Path, int]) -> bool:
    root, number = arguments
    try:
        lease.lock(request(f"t{number}"), root)
    except HostError:
        return False
    return True


def test_exactly_one_of_many_wins(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(8) as pool:
        for round_number in range(20):
            root = tmp_path / str(round_number)
            root.mkdir()
            assert sum(pool.map(_try, [(root, number) for number in range(8)], chunksize=1)) == 1

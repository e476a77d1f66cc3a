"""Which apps, which release to go back to, who migrates."""

from __future__ import annotations

from typing import Any

import pytest

from zarpar import release_plan, variables
from zarpar.config import load_apps
from zarpar.errors import BadData

APPS = load_apps(
    {name: {"domains": [f"{name}.example.com"], "source": {"path": "."}, "database": "postgres"} for name in ("a", "b")}
)


@pytest.mark.parametrize(
    ("wanted", "names"), [(None, ["a", "b"]), ("", ["a", "b"]), ("b", ["b"]), ("b, a", ["b", "a"]), (["a"], ["a"])]
)
def test_selected(wanted: object, names: list[str]) -> None:
    assert release_plan.selected(APPS, wanted) == names


def test_unknown_app_is_named() -> None:
    with pytest.raises(BadData, match="no app 'c'"):
        release_plan.selected(APPS, "a,c")


def status(live: str, **releases: str) -> dict[str, Any]:
    entries = [{"release": name, "status": state} for name, state in releases.items()]
    return {"apps": {"a": {"live": {"release": live}, "releases": entries}}}


@pytest.mark.parametrize(
    ("statuses", "target"),
    [
        ({"one": status("r3", r3="good", r2="good", r1="good")}, "r2"),
        ({"one": status("r3", r3="good", r2="bad", r1="good")}, "r1"),
        ({"one": status("r3", r3="prepared", r2="good")}, "r2"),
        ({"one": status("r3", r3="good", r2="good", r1="good"), "two": status("r3", r3="good", r1="good")}, "r1"),
        ({"one": status("r3", r3="good", r2="good"), "two": status("r2", r3="bad", r2="good")}, "r2"),
    ],
)
def test_rollback_target_is_good_on_every_host(statuses: dict[str, Any], target: str) -> None:
    assert release_plan.rollback_target("a", "one", statuses) == target


def test_nothing_to_go_back_to() -> None:
    statuses = {"one": status("r3", r3="good", r2="good"), "two": status("r3", r3="good", r1="good")}
    with pytest.raises(BadData, match="no earlier good release that all hosts have"):
        release_plan.rollback_target("a", "one", statuses)


def inventory(
    web: list[str], db: list[str], play: list[str] | None = None, worker: tuple[str, ...] = ()
) -> dict[str, Any]:
    return {
        "groups": {"web": web, "db": db, "worker": list(worker)},
        "ansible_play_hosts_all": play or web,
        "hostvars": {host: {"ansible_host": f"10.0.0.{number}"} for number, host in enumerate([*web, *db])},
    }


@pytest.mark.parametrize(
    ("task_vars", "migrators"),
    [
        (inventory(["w"], ["w"]), ["w"]),
        (inventory(["w1", "w2"], ["d"]), ["w1"]),
        (inventory(["w1", "w2"], ["w2"]), ["w2"]),
        (inventory(["w1", "w2"], ["w1", "w2"]), ["w1", "w2"]),
        (inventory(["w1", "w2"], ["w2"], play=["w1"]), ["w1"]),
        (inventory(["w1", "w2", "w3"], ["d"], play=["w3", "w2"]), ["w3"]),
        (inventory(["w1", "w2"], ["d"], play=["w1", "w2", "k"], worker=("k",)), ["w1"]),
        (inventory(["w1"], ["k"], play=["w1", "k"], worker=("k",)), ["k"]),
    ],
)
def test_one_migration_for_each_database(task_vars: dict[str, Any], migrators: list[str]) -> None:
    play = task_vars["ansible_play_hosts_all"]
    assert [host for host in play if variables.migrates(host, task_vars)] == migrators


def test_database_on_another_host_needs_a_password() -> None:
    task_vars = {**inventory(["w"], ["d"]), "inventory_hostname": "w"}
    with pytest.raises(BadData, match=r"apps\.a\.database_password: is required"):
        variables.database_url("a", APPS["a"], task_vars)


def test_address_of_the_database_host() -> None:
    task_vars = {**inventory(["w"], ["d"]), "inventory_hostname": "w"}
    task_vars["hostvars"]["d"]["zarpar_address"] = "192.168.0.5"
    app = APPS["a"].model_copy(update={"database_password": "x"})
    assert "@192.168.0.5:5432/" in variables.database_url("a", app, task_vars)


@pytest.mark.parametrize(
    ("worker", "ill", "order"),
    [
        ((), "", ["w1", "w2", "w3"]),
        ((), "w2", ["w2", "w1", "w3"]),
        (("k1", "k2"), "w3", ["w3", "w1", "w2"]),
        (("k1", "w2"), "", ["w2", "w1", "w3"]),
        (("w2", "w3"), "w3", ["w3", "w2", "w1"]),
        (("w2",), "w3", ["w2", "w3", "w1"]),
    ],
)
def test_order_of_the_web_hosts(worker: tuple[str, ...], ill: str, order: list[str]) -> None:
    web = ["w1", "w2", "w3"]
    well = {host: host != ill for host in dict.fromkeys([*web, *worker])}
    assert release_plan.web_order(well, inventory(web, [], worker=worker)) == order


@pytest.mark.parametrize(
    ("worker", "plan", "warned"),
    [
        (("k1", "k2"), {"a": {}, "b": {}}, "k1, k2"),
        (("k1", "w1"), {"a": {}, "b": {}}, "k1"),
        (("k1",), {"a": {}, "b": {"processes": [{"name": "worker"}]}}, ""),
        (("k1",), {"a": {"schedules": [{"name": "clean-up"}]}, "b": {}}, ""),
        (("k1",), {"a": {}}, ""),  # of b nothing is known in this run
        ((), {"a": {}, "b": {}}, ""),
        (("w1",), {"a": {}, "b": {}}, ""),
    ],
)
def test_worker_hosts_without_work_are_named(worker: tuple[str, ...], plan: dict[str, Any], warned: str) -> None:
    whole = {name: {"processes": [], "schedules": [], **its} for name, its in plan.items()}
    told = release_plan.idle_workers(APPS, whole, inventory(["w1"], [], worker=worker))
    expected = [f"no app has a process or a schedule, so nothing will run on {warned} (group worker)"]
    assert told == (expected if warned else [])

"""Which Redis and PostgreSQL an app uses, who may reach them, and what roles redis and firewall make of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.support import roles

from zarpar import config, environment, services, source
from zarpar.errors import BadData
from zarpar_host import redis, releases
from zarpar_host.errors import HostError
from zarpar_host.state import Places

ADDRESSES = {"w1": "192.0.2.1", "w2": "192.0.2.2", "r": "192.0.2.9", "d": "2001:db8::5"}
SHOP = roles.app(redis="broker")
REMOTE = {**SHOP, "redis_password": "s3 cret/@#", "database": "postgres", "database_password": "x"}
PLAIN = roles.app()


def at(host: str, app: dict[str, Any] = SHOP, **groups: list[str]) -> dict[str, Any]:
    return roles.inventory(host, {"shop": app}, ADDRESSES, **groups)


def url(task_vars: dict[str, Any]) -> str:
    return services.redis_url("shop", config.load_apps(task_vars["apps"])["shop"], task_vars)


def of_host(task_vars: dict[str, Any]) -> dict[str, Any]:
    return services.of_host(config.load_apps(task_vars["apps"]), task_vars)


# -- keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"redis": "yes"}, "apps.shop.redis"),
        ({"redis_memory": "128"}, "apps.shop.redis_memory"),
        ({"redis_memory": "1G\nrename-command"}, "apps.shop.redis_memory"),
        ({"redis_memory": "4M"}, "apps.shop: redis_memory"),
        ({"redis_port": 80}, "apps.shop.redis_port"),
        ({"redis_port": "6379"}, "apps.shop.redis_port"),
        ({"redis_password": 5}, "apps.shop.redis_password"),
        ({"redis": "cache", "env": {"REDIS_URL": "redis://x"}}, "apps.shop: env.REDIS_URL"),
    ],
)
def test_wrong_key_is_refused_by_name(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(BadData) as caught:
        config.load_apps({"shop": roles.app(**keys)})
    assert caught.value.summary.startswith(named), caught.value.summary


def test_password_is_not_shown() -> None:
    with pytest.raises(BadData) as caught:
        config.load_apps({"shop": roles.app(redis_password=["CANARY"])})
    assert "CANARY" not in str(vars(caught.value))
    assert "CANARY" not in repr(config.load_apps({"shop": {**SHOP, "redis_password": "CANARY"}}))


def test_an_app_without_redis_may_have_its_own_url() -> None:
    assert config.load_apps({"shop": roles.app(env={"REDIS_URL": "redis://x"})})["shop"].env


def test_ports_do_not_depend_on_other_apps() -> None:
    """A port is part of what running processes have in their environment."""
    one = config.load_apps({"shop": SHOP})["shop"].port_of_redis("shop")
    assert one == 25107
    assert one in config.REDIS_PORTS
    assert config.load_apps({"shop": roles.app(redis="cache", redis_port=7000)})["shop"].port_of_redis("shop") == 7000


def test_two_apps_do_not_share_a_port() -> None:
    other = {**SHOP, "domains": ["other.example.com"], "redis_port": 25107}
    with pytest.raises(BadData, match=r"apps\.other\.redis_port: 25107 is the port of apps\.shop's Redis already"):
        config.load_apps({"shop": SHOP, "other": other})
    config.load_apps({"shop": SHOP, "other": {**other, "redis": ""}})


# -- which Redis -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task_vars", "expected"),
    [
        (at("w1", PLAIN, web=["w1"]), ""),
        (at("w1", web=["w1"]), "redis://shop:@127.0.0.1:25107/0"),
        (at("w1", web=["w1"], redis=["w1"]), "redis://shop:@127.0.0.1:25107/0"),
        (at("w2", web=["w1", "w2"], redis=["w1", "w2"]), "redis://shop:@127.0.0.1:25107/0"),
        (
            at("w1", REMOTE, web=["w1"], redis=["r"]),
            "rediss://shop:s3%20cret%2F%40%23@192.0.2.9:25107/0?ssl_cert_reqs=none",
        ),
        # the host that shares its own with others listens on the network only
        (
            at("w1", REMOTE, web=["w1", "w2"], redis=["w1"]),
            "rediss://shop:s3%20cret%2F%40%23@192.0.2.1:25107/0?ssl_cert_reqs=none",
        ),
        (
            at("w2", REMOTE, web=["w2"], worker=["w1"], redis=["d"]),
            "rediss://shop:s3%20cret%2F%40%23@[2001:db8::5]:25107/0?ssl_cert_reqs=none",
        ),
    ],
)
def test_redis_url(task_vars: dict[str, Any], expected: str) -> None:
    assert url(task_vars) == expected


@pytest.mark.parametrize(
    "groups", [{"web": ["w1", "w2"]}, {"web": ["w1"], "worker": ["w2"]}], ids=["two web hosts", "a worker host"]
)
def test_hosts_that_would_have_a_redis_each_are_refused(groups: dict[str, list[str]]) -> None:
    task_vars = at("w1", **groups)
    with pytest.raises(BadData, match=r"apps\.shop\.redis: several hosts") as caught:
        services.check(config.load_apps(task_vars["apps"]), task_vars)
    assert "group redis" in caught.value.hint


@pytest.mark.parametrize("host", ["w1", "w2"])
def test_a_redis_that_others_use_needs_a_password(host: str) -> None:
    with pytest.raises(BadData, match=r"apps\.shop\.redis_password: is required") as caught:
        url(at(host, web=["w1", "w2"], redis=["w1"]))
    assert "vault_shop_redis_password" in caught.value.hint


def test_a_host_of_its_own_needs_nobody_elses_password() -> None:
    """The database is beside the app, Redis is not: the Redis host has no need of the database's password."""
    app = {**SHOP, "redis_password": "x", "database": "postgres"}
    task_vars = at("r", app, web=["w1"], db=["w1"], redis=["r"])
    services.check(config.load_apps(task_vars["apps"]), task_vars)
    (plain,) = services.apps_for_host(config.load_apps(task_vars["apps"]), task_vars)
    assert (plain["database_url"], plain["redis_url"]) == ("", "")


def release_id(task_vars: dict[str, Any]) -> str:
    app = config.load_apps(task_vars["apps"])["shop"]
    commit = source.Commit("/x", "c" * 40, "t" * 40, "", "", False, "wsgi:app", "")
    return source.release_id(app, commit, services.urls("shop", app, task_vars))


def test_a_service_that_moves_makes_a_new_release() -> None:
    """What runs has the old address in its environment."""
    before = at("w1", REMOTE, web=["w1", "w2"], redis=["r"], db=["r"])
    moved = [at("w1", REMOTE, web=["w1", "w2"], redis=[redis], db=[db]) for redis, db in (("d", "r"), ("r", "d"))]
    assert release_id(before) == release_id({**before, "inventory_hostname": "w2"}), "the same on every host"
    assert len({release_id(task_vars) for task_vars in (before, *moved)}) == 3


# -- who may reach what ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task_vars", "role", "ports"),
    [
        (at("w1", PLAIN, web=["w1"], redis=["w1"]), "", []),
        (at("w1", REMOTE, web=["w1"], db=["w1"]), "local", []),
        (at("w1", REMOTE, web=["w1"], redis=["r"], db=["d"]), "", []),
        (at("r", REMOTE, web=["w1"], redis=["r"], db=["d"]), "network", [25107]),
        (at("d", REMOTE, web=["w1"], redis=["r"], db=["d"]), "", [5432]),
        (at("d", REMOTE, web=["w1"], redis=["r", "d"], db=["r"]), "", []),
        (at("d", PLAIN, web=["w1"], db=["d"]), "", []),
        (at("r", REMOTE, web=["w1"], redis=["r"], db=["r"]), "network", [5432, 25107]),
        (at("w1", REMOTE, web=["w1", "w2"], redis=["w1"], db=["w1", "w2"]), "network", [25107]),
    ],
)
def test_what_a_host_serves(task_vars: dict[str, Any], role: str, ports: list[int]) -> None:
    told = of_host(task_vars)
    assert (told["redis"], told["ports"]) == (role, ports)
    assert bool(told["clients"]) == bool(ports)
    assert told["listen"] == ([ADDRESSES[task_vars["inventory_hostname"]]] if role == "network" else [])


@pytest.mark.parametrize(
    ("task_vars", "peers"),
    [
        (at("w1", SHOP, web=["w1"]), []),
        (at("w1", SHOP, web=["w1", "w2"], redis=["r"]), ["192.0.2.2"]),
        (at("w2", SHOP, web=["w1", "w2", "d"], redis=["r"]), ["192.0.2.1", "[2001:db8::5]"]),
        (at("r", SHOP, web=["w1", "w2"], redis=["r"]), []),
        (at("w1", {**SHOP, "tls": "off"}, web=["w1", "w2"], redis=["r"]), []),
    ],
)
def test_web_servers_that_share_their_names(task_vars: dict[str, Any], peers: list[str]) -> None:
    assert of_host(task_vars)["peers"] == peers


def test_a_web_server_without_an_address_is_no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_resolve", lambda _name: [])
    task_vars = at("w1", SHOP, web=["w1", "w2"], redis=["r"])
    task_vars["hostvars"]["w2"] = {"ansible_host": "an-alias-of-ssh"}
    assert of_host(task_vars)["peers"] == []


def test_names_are_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"shop.internal": ["10.0.0.7", "2001:db8::7", "10.0.0.7"], "here": ["127.0.1.1"]}

    def look(name: str, *_words: object, **_more: object) -> list[tuple[Any, ...]]:
        if name not in known:
            raise OSError("not known")
        return [(0, 0, 0, "", (address, 0)) for address in known[name]]

    monkeypatch.setattr(services.socket, "getaddrinfo", look)
    task_vars = at("r", REMOTE, web=["w1"], redis=["r"])
    task_vars["hostvars"]["w1"] = {"zarpar_address": "shop.internal", "ansible_host": "198.51.100.1"}
    assert of_host(task_vars)["clients"] == [{"name": "w1", "addresses": ["10.0.0.7", "2001:db8::7"]}]
    for name in ("nowhere", "here", "127.0.0.1", "x" * 70):
        task_vars["hostvars"]["w1"] = {"ansible_host": name}
        with pytest.raises(BadData, match=r"w1: .* is no address by which other hosts") as caught:
            of_host(task_vars)
        assert "zarpar_address" in caught.value.hint


# -- the roles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task_vars",
    [at("w1", PLAIN, web=["w1"], redis=["w1"]), at("w1", REMOTE, web=["w1"], redis=["r"], db=["r"])],
    ids=["no app wants one", "it is elsewhere"],
)
def test_no_redis_here(task_vars: dict[str, Any]) -> None:
    assert roles.render("redis", task_vars) == []


def settings(text: str) -> dict[str, str]:
    pairs = (line.partition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def test_local_redis() -> None:
    items = roles.render("redis", at("w1", web=["w1"]))
    said = settings(roles.file(items, "/etc/zarpar/redis/shop.conf")["content"])
    expected = {
        "bind": "127.0.0.1",
        "port": "25107",
        "aclfile": "/etc/zarpar/redis/shop.made.acl",
        "dir": "/var/lib/zarpar/redis/shop",
        "save": '""',
        "appendonly": "yes",
        "maxmemory": "128mb",
        "maxmemory-policy": "noeviction",
    }
    assert said | expected == said
    assert not [name for name in said if name.startswith("tls")]
    units = [item["unit"] for item in items if "unit" in item]
    assert units == ["zarpar-redis@shop.service"]
    first = items[0]
    assert first["command"] == ["systemctl", "mask", "redis-server.service"], "before the package would start it"
    assert items[1] == {"packages": ["redis-server"]}


def test_cache() -> None:
    app = roles.app(redis="cache", redis_memory="1G")
    items = roles.render("redis", at("w1", app, web=["w1"]))
    said = settings(roles.file(items, "/etc/zarpar/redis/shop.conf")["content"])
    assert (said["appendonly"], said["maxmemory"], said["maxmemory-policy"]) == ("no", "1gb", "allkeys-lru")


def test_redis_of_other_hosts() -> None:
    items = roles.render("redis", at("d", REMOTE, web=["w1"], redis=["d"], db=["r"]))
    said = settings(roles.file(items, "/etc/zarpar/redis/shop.conf")["content"])
    assert (said["bind"], said["port"], said["tls-port"]) == ("-2001:db8::5", "0", "25107")
    assert said["aclfile"] == "/etc/zarpar/redis/shop.acl"
    assert "SupplementaryGroups=ssl-cert" in roles.file(items, "/etc/systemd/system/zarpar-redis@.service")["content"]
    assert {"packages": ["redis-server", "ssl-cert"]} in items


def test_logins() -> None:
    """A password that is given is kept as its hash, and one of the host's own is made once."""
    given = roles.file(roles.render("redis", at("r", REMOTE, web=["w1"], redis=["r"])), "/etc/zarpar/redis/shop.acl")
    assert "s3 cret" not in str(given)
    assert re.match(r"user default off\nuser shop on #[0-9a-f]{64} ~\* ", given["content"])
    made, again = (
        roles.file(roles.render("redis", at("w1", web=["w1"])), "/etc/zarpar/redis/shop.made.acl") for _ in range(2)
    )
    assert made["create_only"]
    assert made["content"] != again["content"]
    for item in (given, made, again):
        assert (item["mode"], item["owner"], item["secret"]) == ("0400", "shop", True)
        assert " -@admin -@dangerous " in item["content"]


def test_the_host_puts_its_own_password_in(tmp_path: Path) -> None:
    bare = "redis://shop:@127.0.0.1:25107/0"
    assert redis.whole_url("shop", "redis://shop:x@127.0.0.1:25107/0", tmp_path).count("shop:x@") == 1
    with pytest.raises(HostError, match="the Redis of shop is not set up on this host"):
        redis.whole_url("shop", bare, tmp_path)
    item = roles.file(roles.render("redis", at("w1", web=["w1"])), "/etc/zarpar/redis/shop.made.acl")
    path = tmp_path / "etc/zarpar/redis/shop.made.acl"
    path.parent.mkdir(parents=True)
    path.write_text(item["content"])
    assert re.fullmatch(r"redis://shop:[A-Za-z0-9]{40}@127\.0\.0\.1:25107/0", redis.whole_url("shop", bare, tmp_path))


def test_processes_get_the_url(tmp_path: Path) -> None:
    task_vars = at("w1", {**SHOP, "redis_password": "x"}, web=["w1"])
    (app,) = services.apps_for_host(config.load_apps(task_vars["apps"]), task_vars)
    release = {"id": "r1", "wsgi": "wsgi:app", "worker_class": "gthread"}
    values = releases.environment(Places("shop", tmp_path), app, release, tmp_path)
    assert values["REDIS_URL"] == "redis://shop:x@127.0.0.1:25107/0"
    assert environment.names(SHOP)["REDIS_URL"] == "Zarpar"
    (app,) = services.apps_for_host(config.load_apps({"shop": PLAIN}), task_vars)
    assert "REDIS_URL" not in releases.environment(Places("shop", tmp_path), app, release, tmp_path)
    assert "REDIS_URL" not in environment.names(PLAIN)


def test_firewall() -> None:
    rules = at("r", REMOTE, web=["w1", "d"], redis=["r"], db=["r"])
    text = roles.file(roles.render("firewall", rules), "/etc/zarpar/firewall.nft")["content"]
    lines = [line.strip() for line in text.splitlines()]
    assert [line for line in lines if line.endswith("accept") or line == "drop"] == [
        'iifname "lo" accept',
        "ip saddr 192.0.2.1 accept",
        "ip6 saddr 2001:db8::5 accept",
        "drop",
    ]
    assert "policy accept;" in text, "nobody is locked out of anything else"
    assert [line for line in lines if "dport" in line] == [
        "tcp dport { 5432, 25107 } tcp flags & (fin | syn | rst | ack) == syn jump services"
    ]


def test_no_firewall_where_nobody_comes_from_outside() -> None:
    items = roles.render("firewall", at("w1", REMOTE, web=["w1"], db=["w1"]))
    assert [item["absent"] for item in items if "absent" in item] == [
        "/etc/systemd/system/zarpar-firewall.service",
        "/etc/zarpar/firewall.nft",
    ]
    assert not any("packages" in item or "file" in item for item in items)

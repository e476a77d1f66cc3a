"""Which host's PostgreSQL and Redis an app uses from where, and who else may reach them. Pure, but for names in DNS.

Apps run on the hosts of the groups web and worker; PostgreSQL on those of db; Redis on those of redis or, without
that group, on the only host that runs apps. Where the group worker has hosts, they alone run processes and schedules.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import socket
from collections.abc import Mapping
from typing import Any

from zarpar import config
from zarpar.errors import BadData
from zarpar.variables import address_of, database_url

POSTGRES_PORT = 5432
Apps = Mapping[str, config.App]


def app_hosts(task_vars: Mapping[str, Any]) -> list[str]:
    """The hosts that run apps, in the inventory's order."""
    return list(dict.fromkeys([*_group("web", task_vars), *_group("worker", task_vars)]))


def part(host: str, task_vars: Mapping[str, Any]) -> str:
    """What a host runs of the apps: "web", "processes", or both (empty), as zarpar-host has it."""
    workers = _group("worker", task_vars)
    if not workers or host not in app_hosts(task_vars):
        return ""
    if host not in workers:
        return "web"
    return "" if host in _group("web", task_vars) else "processes"


def runs_once(host: str, task_vars: Mapping[str, Any]) -> bool:
    """Whether a host is the one that runs what must not run twice: the first in worker, else the first in web."""
    return host == next(iter([*_group("worker", task_vars), *_group("web", task_vars), host]))


def redis_host(host: str, task_vars: Mapping[str, Any]) -> str:
    """The host whose Redis a host uses: its own when it is in the group redis, else the first of that group.

    Without that group it is the host itself, as long as it is the only one; empty when there is none.
    """
    servers = _group("redis", task_vars)
    if servers:
        return host if host in servers else servers[0]
    return host if app_hosts(task_vars) in ([host], []) else ""


def redis_clients(host: str, task_vars: Mapping[str, Any]) -> list[str]:
    """The other hosts that use the Redis of a host."""
    return [other for other in app_hosts(task_vars) if other != host and redis_host(other, task_vars) == host]


def redis_url(name: str, app: config.App, task_vars: Mapping[str, Any]) -> str:
    """REDIS_URL for an app as this host must write it; empty when it has no Redis.

    Raises BadData when there is none that all hosts could use, or it is shared and there is no password for it.
    """
    if not app.redis:
        return ""
    server = redis_host(task_vars["inventory_hostname"], task_vars)
    if not server:
        raise BadData(
            f"apps.{name}.redis: several hosts run the app, and none is in the group redis",
            hint="Add a host to the group redis of the inventory (it may be one of the web hosts): all use its Redis.",
        )
    clients = redis_clients(server, task_vars)
    if clients and not app.redis_password:
        raise BadData(
            f"apps.{name}.redis_password: is required, because {clients[0]} uses the Redis of another host ({server})",
            hint=f'Write redis_password: "{{{{ vault_{name.replace("-", "_")}_redis_password }}}}" and'
            " put the value into the vault.",
        )
    where = address_of(server, task_vars) if clients else ""
    return config.redis_url(name, app.redis_password, app.port_of_redis(name), where)


def apps_for_host(apps: Apps, task_vars: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The apps as this host's templates and zarpar-host get them, sorted by name.

    A host that only serves the others needs no addresses of services, and may have no password for them.
    """
    runs = _runs_apps(task_vars["inventory_hostname"], task_vars)
    return [
        app.for_host(name, database_url(name, app, task_vars), redis_url(name, app, task_vars))
        if runs
        else app.for_host(name, "", "")
        for name, app in apps.items()
    ]


def check(apps: Apps, task_vars: Mapping[str, Any]) -> None:
    """Raise BadData, before any host is asked, for services that the apps' hosts could not use."""
    for host in dict.fromkeys([*app_hosts(task_vars), *_group("db", task_vars), *_group("redis", task_vars)]):
        its = {**task_vars, "inventory_hostname": host}
        apps_for_host(apps, its)
        of_host(apps, its)


def urls(name: str, app: config.App, task_vars: Mapping[str, Any]) -> list[str]:
    """Every address by which hosts that run the app find its services: a service that moves makes a new release."""
    found = set()
    for host in app_hosts(task_vars):
        its = {**task_vars, "inventory_hostname": host}
        found |= {database_url(name, app, its), redis_url(name, app, its)}
    return sorted(found - {""})


def of_host(apps: Apps, task_vars: Mapping[str, Any]) -> dict[str, Any]:
    """What this host serves to the apps, for templates.

    redis: "" (it has none), "local" or "network"; listen: its addresses, when other hosts use its Redis; ports: those
    that only `clients` (their name and addresses) may reach; part and once: see `part` and `runs_once`; peers: see
    `web_peers`. Raises BadData for a name without an address.
    """
    host = task_vars["inventory_hostname"]
    others = [other for other in app_hosts(task_vars) if other != host]
    with_redis = [(name, app) for name, app in apps.items() if app.redis]
    shared = bool(redis_clients(host, task_vars))
    used = shared or app_hosts(task_vars) == [] or host in app_hosts(task_vars)
    serves = with_redis and used and redis_host(host, task_vars) == host
    ports = [app.port_of_redis(name) for name, app in with_redis] if serves and shared else []
    databases = _group("db", task_vars)
    if host in databases and set(others) - set(databases) and any(app.database for app in apps.values()):
        ports.append(POSTGRES_PORT)
    return {
        "redis": ("network" if shared else "local") if serves else "",
        "listen": addresses(host, task_vars) if serves and shared else [],
        "ports": sorted(ports),
        "part": part(host, task_vars),
        "once": runs_once(host, task_vars),
        "peers": web_peers(host, task_vars) if any(app.tls != "off" for app in apps.values()) else [],
        "clients": [{"name": other, "addresses": addresses(other, task_vars)} for other in others] if ports else [],
    }


def web_peers(host: str, task_vars: Mapping[str, Any]) -> list[str]:
    """The other web servers of a web server, as nginx writes addresses; those without a known address are left out.

    They share their domains, so an ACME server that wants to prove a name for one of them may ask any other.
    """
    web = _group("web", task_vars)
    if host not in web:
        return []
    found = []
    for other in web:
        if other == host:
            continue
        with contextlib.suppress(BadData):
            its = min(addresses(other, task_vars), key=lambda address: ":" in address)
            found.append(f"[{its}]" if ":" in its else its)
    return found


def addresses(host: str, task_vars: Mapping[str, Any]) -> list[str]:
    """The IP addresses by which other hosts know a host of the inventory, as this machine resolves its name.

    Raises BadData when there is none: a loopback address leads every other host to itself.
    """
    name = address_of(host, task_vars)
    try:
        found = [ipaddress.ip_address(name)]
    except ValueError:
        found = _resolve(name)
    others = sorted({str(address) for address in found if not address.is_loopback and "%" not in str(address)})
    if not others:
        raise BadData(
            f"{host}: {name[:100]!r} is no address by which other hosts could know it",
            hint=f"Give {host} a zarpar_address in the inventory: the IP address by which they do.",
        )
    return others


@functools.cache  # asked for each pair of hosts
def _resolve(name: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        return [ipaddress.ip_address(entry[4][0]) for entry in socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return []


def _group(name: str, task_vars: Mapping[str, Any]) -> list[str]:
    return list(task_vars.get("groups", {}).get(name, []))


def _runs_apps(host: str, task_vars: Mapping[str, Any]) -> bool:
    """Whether a host runs apps: also one of a play of its own that is in none of our groups."""
    serves_only = host in [*_group("db", task_vars), *_group("redis", task_vars)]
    return host in app_hosts(task_vars) or not serves_only

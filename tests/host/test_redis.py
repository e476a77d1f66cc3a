"""Redis: an instance for each app, with the memory and policy that it asked for, and closed to everybody else."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from environment import App, Server
from on_host import Live, Machine

MEGABYTES = {"M": 1, "G": 1024}
DURABLE_AFTER = 2.5  # seconds; while a sync of the file is under way, Redis puts off the next write for two
RESTART_LIMIT = 30.0


@pytest.fixture
def instance(server: Server, app: App) -> App:
    """The app, where its Redis is on this server."""
    if not app["redis"] or not server.services["redis"]:
        pytest.skip(f"no Redis of {app['name']} on {server.name}")
    return app


@pytest.fixture
def redis(machine: Machine, app: App) -> Redis:
    """The app's Redis as its live release reaches it."""
    if not app["redis"]:
        pytest.skip(f"{app['name']} has no Redis")
    return Redis(machine, machine.live(app["name"]))


class Redis:
    """Asks on the app's server, with the address that the release has in its environment."""

    def __init__(self, machine: Machine, live: Live) -> None:
        self._machine = machine
        self._environment = f"/etc/zarpar/apps/{live.app}/env/{live.release}"

    def ask(self, *commands: list[str], password: str = "") -> list[Any]:
        """Return the answer to each command; an error as its text. password: another than the app's ("-" for none)."""
        told: list[Any] = self._machine.ask(CLIENT, self._environment, password, json.dumps(commands))
        return told

    def info(self) -> dict[str, str]:
        lines = str(self.ask(["INFO"])[0]).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)


# -- where it runs -----------------------------------------------------------------------------------------------


def test_runs_as_its_app(machine: Machine, instance: App) -> None:
    name = instance["name"]
    shown = machine.properties(f"zarpar-redis@{name}.service", "ActiveState", "UnitFileState", "User")
    assert shown == {"ActiveState": "active", "UnitFileState": "enabled", "User": name}


def test_listens_as_needed_only(server: Server, machine: Machine, instance: App) -> None:
    mine = {address for address, port, _ in machine.listeners if port == instance["redis_port"]}
    if server.services["redis"] == "local":
        assert mine == {"127.0.0.1"}
    else:
        assert mine, "nothing listens"
        assert mine <= set(server.services["listen"])


def test_stock_instance_does_not_run(server: Server, machine: Machine) -> None:
    if not server.services["redis"]:
        pytest.skip(f"no Redis on {server.name}")
    if not server.lab:
        pytest.skip("one that was here before Zarpar is let alone")
    shown = machine.properties("redis-server.service", "LoadState", "ActiveState")
    assert shown == {"LoadState": "masked", "ActiveState": "inactive"}
    assert not [port for _, port, _ in machine.listeners if port == 6379]


def test_files_are_closed(server: Server, machine: Machine, instance: App) -> None:
    name = instance["name"]
    login = machine.check("sed -n 's/^aclfile //p' %s", f"/etc/zarpar/redis/{name}.conf")
    others = [app["name"] for app in server.apps if app["redis"] and app["name"] != name]
    for user in ("nobody", "www-data", "redis", *others):  # www-data is in the app's group
        assert not machine.open_to(user, login, f"/var/lib/zarpar/redis/{name}"), user


# -- what the app has --------------------------------------------------------------------------------------------


@pytest.mark.on("web")
def test_memory_policy_and_persistence(app: App, redis: Redis) -> None:
    info = redis.info()
    size = int(app["redis_memory"][:-1]) * MEGABYTES[app["redis_memory"][-1]]
    assert int(info["maxmemory"]) == size * 2**20
    assert info["maxmemory_policy"] == {"cache": "allkeys-lru", "broker": "noeviction"}[app["redis"]]
    assert info["aof_enabled"] == {"cache": "0", "broker": "1"}[app["redis"]]


@pytest.mark.on("web")
@pytest.mark.parametrize(("password", "answer"), [("wrong", "WRONGPASS"), ("-", "NOAUTH")], ids=["wrong", "none"])
def test_password_is_needed(redis: Redis, password: str, answer: str) -> None:
    (told,) = redis.ask(["PING"], password=password)
    assert str(told).startswith(answer), told


@pytest.mark.on("web")
def test_refused_commands(redis: Redis) -> None:
    for command, answer in zip(REFUSED, redis.ask(*REFUSED), strict=True):
        assert str(answer).startswith("NOPERM"), f"{command}: {answer}"


@pytest.mark.on("web")
@pytest.mark.lab
def test_broker_survives_being_killed(server: Server, machine: Machine, app: App, redis: Redis) -> None:
    if app["redis"] != "broker" or server.services["redis"] != "local":
        pytest.skip(f"{app['name']} has no broker on {server.name}")
    assert redis.ask(["SET", "zarpar-verify", "kept"], ["RPUSH", "zarpar-queue", "1", "2"]) == ["OK", 2]
    time.sleep(DURABLE_AFTER)
    machine.check("systemctl kill --signal=KILL %s", f"zarpar-redis@{app['name']}.service")
    deadline = time.monotonic() + RESTART_LIMIT
    while (told := redis.ask(["GET", "zarpar-verify"], ["LRANGE", "zarpar-queue", "0", "-1"])) != ["kept", ["1", "2"]]:
        assert time.monotonic() < deadline, told
        time.sleep(1)
    assert redis.ask(["DEL", "zarpar-verify", "zarpar-queue"]) == [2]


REFUSED = [
    ["CONFIG", "GET", "dir"],
    ["CONFIG", "SET", "appendonly", "no"],
    ["ACL", "LIST"],
    ["ACL", "SETUSER", "default", "on", "nopass"],
    ["SHUTDOWN", "NOSAVE"],
    ["REPLICAOF", "127.0.0.1", "1"],
    ["SAVE"],
    ["MODULE", "LIST"],
    ["MONITOR"],
    ["MIGRATE", "127.0.0.1", "1", "x", "0", "1"],
]

# A client in a few lines: a server has none of its own, and the address is to stay on it.
CLIENT = """
import json, pathlib, socket, ssl, sys, urllib.parse
environment, other, commands = sys.argv[1:]
lines = pathlib.Path(environment).read_text().splitlines()
value = next(line.split("=", 1)[1] for line in lines if line.startswith("REDIS_URL="))
url = urllib.parse.urlsplit(value.strip('"'))
def answer(stream):
    line = stream.readline().rstrip(b"\\r\\n").decode()
    if not line:
        return "closed"
    kind, rest = line[0], line[1:]
    if kind == "$":
        return None if rest == "-1" else stream.read(int(rest) + 2)[:-2].decode(errors="replace")
    if kind == "*":
        return [answer(stream) for _ in range(int(rest))]
    return int(rest) if kind == ":" else rest
try:
    link = socket.create_connection((url.hostname, url.port), 10)
    if url.scheme == "rediss":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        link = context.wrap_socket(link)
    stream, told = link.makefile("rwb"), []
    login = [] if other == "-" else [["AUTH", url.username, other or urllib.parse.unquote(url.password)]]
    for command in login + json.loads(commands):
        words = [word.encode() for word in command]
        stream.write(b"*%d\\r\\n" % len(words) + b"".join(b"$%d\\r\\n%s\\r\\n" % (len(w), w) for w in words))
        stream.flush()
        told.append(answer(stream))
        if command[0] == "AUTH" and told.pop() != "OK":
            told = ["WRONGPASS"]
            break
except OSError as error:
    told = [str(error)]
print(json.dumps(told))
"""

"""The host suite: what every server of an environment must do, asked over Ansible's own connection.

`pytest tests/host --zarpar-env ENV` only reads, and is safe for servers in use. Tests with the marker `lab` change
the host; they run with --zarpar-lab, and only on hosts of the lab.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
os.environ["ANSIBLE_CONFIG"] = str(CHECKOUT / "ansible.cfg")  # before Ansible is imported, which reads it

from environment import App, Environment, Server, load  # noqa: E402
from on_host import Live, Machine  # noqa: E402
from testinfra.host import Host  # noqa: E402
from visitor import Visitor  # noqa: E402

from zarpar.errors import BadData  # noqa: E402

ENVIRONMENT = pytest.StashKey[Environment]()
HOSTS = pytest.StashKey[dict[str, Host | str]]()
TOLD = pytest.StashKey[set[tuple[str, str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("zarpar")
    group.addoption("--zarpar-env", default="", metavar="ENV", help="an environment's name, or a path to its inventory")
    group.addoption("--zarpar-limit", default="", metavar="HOSTS", help="only these hosts or groups")
    group.addoption("--zarpar-lab", action="store_true", help="run the tests that change the hosts of a lab, too")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lab: changes the host; runs with --zarpar-lab only")
    config.addinivalue_line("markers", "on(group, ...): is about the hosts in these groups of the inventory")
    if config.option.tbstyle == "auto":
        config.option.tbstyle = "short"
    if not config.getoption("--zarpar-env"):
        raise pytest.UsageError("tests/host tests the servers of an environment: add --zarpar-env ENV")
    try:
        environment = load(config.getoption("--zarpar-env"), config.getoption("--zarpar-limit"))
    except BadData as error:
        raise pytest.UsageError("\n".join(filter(None, (error.summary, error.detail, error.hint)))) from error
    outside = [server.name for server in environment.servers if not server.lab]
    if config.getoption("--zarpar-lab") and outside:
        raise pytest.UsageError(f"--zarpar-lab breaks hosts on purpose; not of the lab: {', '.join(outside)}")
    config.stash[ENVIRONMENT] = environment
    config.stash[HOSTS] = _connect_all(environment)
    config.stash[TOLD] = set()


def _connect_all(environment: Environment) -> dict[str, Host | str]:
    """The connections to all servers; for one that cannot be had, the reason."""

    def connect(server: Server) -> Host | str:
        try:
            return environment.connect(server)
        except (AssertionError, RuntimeError) as error:  # of testinfra; for ssh's own failures with its result
            return str(getattr(error.args[0], "stderr", error)).strip()

    with ThreadPoolExecutor(max_workers=10) as pool:
        return dict(zip((s.name for s in environment.servers), pool.map(connect, environment.servers), strict=True))


def pytest_report_header(config: pytest.Config) -> str:
    names = ", ".join(server.name for server in config.stash[ENVIRONMENT].servers)
    changes = "and the tests that change them" if config.getoption("--zarpar-lab") else "nothing is changed"
    return f"zarpar: {names}; {changes}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each function for every server of its group, or for every app there."""
    if "server" not in metafunc.fixturenames:
        return
    environment, hosts = metafunc.config.stash[ENVIRONMENT], metafunc.config.stash[HOSTS]
    marker = metafunc.definition.get_closest_marker("on")
    groups = marker.args if marker else ("all",)
    servers = environment.of_group(*groups)
    if metafunc.function.__name__ != "test_can_be_reached":  # where a host that cannot be asked fails, once
        servers = [server for server in servers if not isinstance(hosts[server.name], str)]
    if not servers:
        missing = pytest.mark.skip(reason=f"no host to ask in the group {' or '.join(groups)}")
        metafunc.parametrize("server", [pytest.param(None, marks=missing)], ids=["none"], scope="session")
    elif "app" in metafunc.fixturenames:
        pairs = [(server, app) for server in servers for app in server.apps]
        names = [f"{server.name}-{app['name']}" for server, app in pairs]
        metafunc.parametrize(("server", "app"), pairs, ids=names, scope="session")
    else:
        metafunc.parametrize("server", servers, ids=[server.name for server in servers], scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what changes hosts unless it is asked for; run it last, and reboots at the very end."""
    changing = [item for item in items if item.get_closest_marker("lab")]
    reading = [item for item in items if not item.get_closest_marker("lab")]
    if not config.getoption("--zarpar-lab") and changing:
        config.hook.pytest_deselected(items=changing)
        changing = []
    items[:] = reading + sorted(changing, key=lambda item: item.path.stem == "test_reboot")


@pytest.fixture(scope="session")
def environment(pytestconfig: pytest.Config) -> Environment:
    return pytestconfig.stash[ENVIRONMENT]


@pytest.fixture(scope="session")
def connection(pytestconfig: pytest.Config, server: Server) -> Host | str:
    """The connection to the server; a text that says why there is none."""
    return pytestconfig.stash[HOSTS][server.name]


@pytest.fixture(scope="session")
def host(connection: Host | str) -> Host:
    """The server by testinfra; every command runs as root."""
    assert isinstance(connection, Host)
    return connection


@pytest.fixture(scope="session")
def machine(host: Host) -> Machine:
    """The server by Zarpar's own questions."""
    return Machine(host)


@pytest.fixture(scope="session")
def apps(server: Server) -> tuple[App, ...]:
    return server.apps


@pytest.fixture
def live(request: pytest.FixtureRequest, machine: Machine, app: App) -> Live:
    """The app's live release and its running slot, as they are now."""
    changes = request.node.get_closest_marker("lab")
    return machine.unwatched(app["name"]) if changes else machine.live(app["name"])


@pytest.fixture(scope="session")
def visitor(server: Server) -> Visitor:
    return Visitor(server.address)


@pytest.fixture
def site(app: App) -> str:
    """The start of the app's canonical address: https://shop.example.com"""
    return f"{'http' if app['tls'] == 'off' else 'https'}://{app['canonical']}"


@pytest.fixture
def secure(app: App) -> App:
    """The app, where it has HTTPS."""
    if app["tls"] == "off":
        pytest.skip(f"{app['name']} has tls off")
    return app


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the server logged last under the first failed test of each server and app."""
    report = yield
    funcargs = getattr(item, "funcargs", {})
    if report.failed and report.when == "call" and "machine" in funcargs:
        server, app = funcargs["server"].name, funcargs.get("app", {}).get("name", "")
        told = item.config.stash[TOLD]
        if (server, app) not in told:
            told.add((server, app))
            report.sections.append((f"what {server} logged last", funcargs["machine"].log(app)))
    return report

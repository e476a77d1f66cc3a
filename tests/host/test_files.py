"""Who may read and write what: tried as the accounts that must not, not read off the modes alone."""

from __future__ import annotations

import pytest
from environment import App
from on_host import Live, Machine

pytestmark = pytest.mark.on("web")

STRANGER = "nobody"


def others(app: App, apps: tuple[App, ...]) -> list[str]:
    """The accounts that an app has to be safe from: those of the other apps, and any other."""
    return [STRANGER, *(other["name"] for other in apps if other["name"] != app["name"])]


def test_account(machine: Machine, app: App) -> None:
    name = app["name"]
    _, _, _, _, _, home, shell = machine.check("getent passwd %s", name).split(":")
    assert (home, shell) == (f"/srv/{name}", "/usr/sbin/nologin")
    assert machine.check("id -Gn %s", name) == name, "the app is in other groups"
    assert machine.check("passwd --status %s", name).split()[1] == "L", "the account has a password"
    may = machine.host.run("sudo --list --other-user=%s", name).stdout
    assert "not allowed to run sudo" in may or not may, may


def test_environment_is_for_root_only(machine: Machine, app: App, apps: tuple[App, ...], live: Live) -> None:
    """systemd reads it and hands it to the app: not even the app's own account can open the file."""
    folder = f"/etc/zarpar/apps/{app['name']}"
    modes = machine.check("stat -Lc '%%U %%a' %s/env %s/slots %s/env/* %s/slots/*", *[folder] * 4).splitlines()
    assert set(modes) == {"root 700", "root 600"}, modes
    paths = [f"{folder}/env", f"{folder}/env/{live.release}", f"{folder}/slots", f"{folder}/slots/{live.slot}"]
    for user in [*others(app, apps), app["name"], "www-data"]:
        assert not machine.open_to(user, *paths), user


def test_environment_of_the_process_is_hidden(machine: Machine, app: App, apps: tuple[App, ...], live: Live) -> None:
    for user in others(app, apps):
        assert not machine.open_to(user, f"/proc/{live.pid}/environ"), user
    shown = machine.properties(live.unit, "Environment")
    assert not shown["Environment"], "everybody can ask systemd for the environment in a unit"


def test_app_cannot_write_its_own_code(machine: Machine, app: App) -> None:
    """So that a hole in the app does not become a change of the app."""
    name = app["name"]
    places = f"/srv/{name}/releases /srv/{name}/venvs /etc/zarpar /etc/systemd/system /usr/local"
    found = machine.check(
        f"cd / && runuser -u {name} -- find {places} -writable ! -type l -print -quit 2>/dev/null || :"
    )
    assert not found, f"{name} may write {found}"
    owned = machine.check(f"find /srv/{name}/releases /srv/{name}/venvs -user {name} -print -quit")
    assert not owned, f"{name} owns {owned}, and could make it writable"


def test_app_writes_where_it_should(machine: Machine, app: App) -> None:
    for folder in ["", *(entry["path"] for entry in app["uploads"])]:
        path = f"/srv/{app['name']}/shared/{folder}"
        assert not machine.denied(app["name"], "test -w %s", path), f"{app['name']} cannot write {path}"


def test_others_cannot_look_in(machine: Machine, app: App, apps: tuple[App, ...], live: Live) -> None:
    name = app["name"]
    logs = [f"/var/log/zarpar/{name}"] if app["logs"] == "file" else []
    paths = [f"/srv/{name}", live.folder, f"/srv/{name}/shared", f"/etc/zarpar/apps/{name}", *logs]
    paths += [f"/var/lib/zarpar/apps/{name}", f"/run/zarpar/{name}-{live.slot}"]
    for user in others(app, apps):
        assert not machine.open_to(user, *paths), user


def test_others_cannot_reach_the_socket(machine: Machine, app: App, apps: tuple[App, ...], live: Live) -> None:
    assert machine.ask(CONNECT, live.socket, user="www-data") == "connected"
    for user in others(app, apps):
        assert machine.ask(CONNECT, live.socket, user=user) == "PermissionError", f"{user} reaches {live.socket}"


def test_nginx_reads_what_it_serves_only(machine: Machine, app: App, live: Live) -> None:
    served = [f"{live.folder}/src/{entry['path']}" for entry in app["static"]]
    served += [f"/srv/{app['name']}/shared/{entry['path']}" for entry in app["uploads"]]
    assert machine.open_to("www-data", *served) == served, "nginx cannot read what it should serve"
    assert machine.denied("www-data", "test -w %s", f"/srv/{app['name']}/shared"), "nginx may change uploads"


def test_nothing_is_writable_for_everybody(machine: Machine, apps: tuple[App, ...]) -> None:
    places = " ".join(f"/srv/{app['name']}" for app in apps)
    places += (
        " /etc/zarpar /var/lib/zarpar /usr/local/lib/zarpar /usr/local/sbin /opt/zarpar /var/www/zarpar /etc/nginx"
    )
    found = machine.check(f"find {places} -xdev ! -type l \\( -perm /0002 -o -perm /6000 \\) -print")
    assert not found, f"writable for everybody, or with somebody's rights:\n{found}"


def test_programs_of_root_belong_to_root(machine: Machine) -> None:
    """What root runs, nobody else may change."""
    places = (
        "/usr/local/lib/zarpar /usr/local/sbin/zarpar-host /opt/zarpar /etc/zarpar/tls /etc/nginx /etc/systemd/system"
    )
    found = machine.check(f"find -H {places} ! -user root -print; find -H {places} -perm /0020 ! -type l ! -group root")
    assert not found, found


def test_private_keys(machine: Machine, secure: App, apps: tuple[App, ...]) -> None:
    for user in [*others(secure, apps), secure["name"], "www-data"]:
        assert not machine.open_to(user, f"/etc/zarpar/tls/{secure['name']}/privkey.pem"), user


CONNECT = """
import json, socket, sys
link = socket.socket(socket.AF_UNIX)
try:
    link.connect(sys.argv[1])
    print(json.dumps("connected"))
except OSError as error:
    print(json.dumps(type(error).__name__))
"""

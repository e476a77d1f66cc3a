"""Certificates that renew themselves: the timer, the hook, and a real renewal."""

from __future__ import annotations

import re
import time

import pytest
from environment import App, Server
from on_host import Machine
from visitor import Visitor, unchecked

pytestmark = pytest.mark.on("web")

HOOK = "/etc/letsencrypt/renewal-hooks/deploy/zarpar-nginx"
BROKEN = "/etc/nginx/conf.d/zz-zarpar-verify.conf"


@pytest.fixture(autouse=True)
def _with_certificates(server: Server) -> None:
    if all(app["tls"] == "off" for app in server.apps):
        pytest.skip(f"every app of {server.name} has tls off")


def test_timer_runs(machine: Machine) -> None:
    timer = machine.properties("certbot.timer", "ActiveState", "UnitFileState", "NextElapseUSecRealtime")
    assert (timer["ActiveState"], timer["UnitFileState"]) == ("active", "enabled")
    assert timer["NextElapseUSecRealtime"], "the timer will never fire"
    service = machine.properties("certbot.service", "LoadState", "Result")
    assert service == {"LoadState": "loaded", "Result": "success"}, machine.check("journalctl -n 20 -u certbot.service")


def test_hook_can_run(machine: Machine) -> None:
    assert machine.check("stat -c '%%U %%a' %s", HOOK) == "root 755"


def test_renewal_is_by_webroot(machine: Machine, secure: App) -> None:
    """Settled at the first issue and kept by certbot: the renewal needs no other port and no stop of nginx."""
    settings = machine.check("cat %s", f"/etc/letsencrypt/renewal/{secure['name']}.conf")
    assert re.search(r"^authenticator = webroot$", settings, re.M), settings
    assert "/var/www/zarpar/acme" in settings, settings
    link = machine.check("readlink %s", f"/etc/zarpar/tls/{secure['name']}")
    assert link == f"/etc/letsencrypt/live/{secure['name']}", "nginx uses the placeholder"


@pytest.mark.lab
def test_renewal_reaches_the_visitor(machine: Machine, secure: App, visitor: Visitor) -> None:
    before = shown(visitor, secure)
    environment = machine.properties("certbot.service", "Environment")["Environment"]
    command = f"env {environment} certbot renew --force-renewal --no-random-sleep-on-renew --cert-name %s 2>&1"
    said = machine.check(command, secure["name"])
    assert "Congratulations, all renewals succeeded" in said, said
    deadline = time.monotonic() + 10
    while shown(visitor, secure) == before:  # nginx's old workers answer until the new ones have started
        assert time.monotonic() < deadline, f"nginx still shows the old certificate:\n{said}"
        time.sleep(0.2)


@pytest.mark.lab
def test_hook_never_loads_a_broken_configuration(machine: Machine, visitor: Visitor, server: Server) -> None:
    workers = "pgrep --parent $(cat /run/nginx.pid) | sort"
    secured = next(app for app in server.apps if app["tls"] != "off")
    before = machine.check(workers)
    machine.check("echo 'this is no configuration;' > %s", BROKEN)
    try:
        done = machine.host.run(HOOK)
        assert done.rc != 0, "the hook says that all is well"
        assert BROKEN in done.stderr, f"the hook does not name the fault: {done.stderr}"
        assert machine.check(workers) == before, "nginx was reloaded"
        assert shown(visitor, secured)
    finally:
        machine.check("rm %s", BROKEN)
    machine.check(HOOK)
    machine.check(f"for i in $(seq 50); do [ \"$({workers})\" = '{before}' ] || exit 0; sleep 0.1; done; exit 1")


def shown(visitor: Visitor, app: App) -> bytes:
    """The certificate that a visitor of an app sees."""
    with visitor.handshake(app["canonical"], unchecked()) as link:
        certificate = link.getpeercert(binary_form=True)
    assert certificate
    return certificate

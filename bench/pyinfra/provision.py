"""pyinfra: bring a bare host to the state in which the app can be released."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.facts.files import File
from pyinfra.operations import apt, files, postgres, server, systemd

data = host.data
app: str = data.app
templates = Path(data.templates)
values: dict[str, Any] = data.template_values
postgres_conf = f"/etc/postgresql/{data.postgres_version}/main/conf.d"


def template(source: str, target: str, mode: str = "644", group: str = "root") -> Any:
    """Write one file from its template."""
    return files.template(
        name=f"Write {target}",
        src=str(templates / f"{source}.j2"),
        dest=target,
        user="root",
        group=group,
        mode=mode,
        **values,
    )


template("apt.conf", f"/etc/apt/apt.conf.d/90{app}")
template("needrestart.conf", f"/etc/needrestart/conf.d/{app}.conf")
template("createcluster.conf", f"/etc/postgresql-common/createcluster.d/{app}.conf")
apt.packages(name="Install the packages", packages=data.packages, no_recommends=True, update=True, cache_time=86400)
files.link(name="Set the time zone", path="/etc/localtime", target="/usr/share/zoneinfo/Etc/UTC", force=True)

journal = template("journald.conf", f"/etc/systemd/journald.conf.d/{app}.conf")
systemd.service(name="Restart the journal", service="systemd-journald.service", restarted=True, _if=journal.did_change)

cluster = template("postgresql.conf", f"{postgres_conf}/{app}.conf")
systemd.service(name="Start PostgreSQL", service="postgresql.service", running=True, enabled=True)
systemd.service(
    name="Restart PostgreSQL",
    service=f"postgresql@{data.postgres_version}-main.service",
    restarted=True,
    _if=cluster.did_change,
)
postgres.role(name="Make the role", role=app, _sudo_user="postgres", _chdir="/")
postgres.database(name="Make the database", database=app, owner=app, _sudo_user="postgres", _chdir="/")

if not host.get_fact(File, path="/opt/uv/bin/uv"):
    server.shell(
        name="Install uv",
        commands=[
            "python3 -m venv /opt/uv",
            "/opt/uv/bin/pip -q --disable-pip-version-check --cert=/etc/ssl/certs/ca-certificates.crt "
            f"install --no-cache-dir uv=={data.uv_version}",
        ],
    )

server.user(  # noqa: S604 - the login shell
    name="Make the app's user",
    user=app,
    home=f"/srv/{app}",
    create_home=False,
    shell="/usr/sbin/nologin",
    system=True,
    ensure_home=False,
)
reader = server.user(  # noqa: S604 - the login shell
    name="Let nginx read the app's files",
    user="www-data",
    groups=[app],
    append=True,
    ensure_home=False,
    home="/var/www",
    shell="/usr/sbin/nologin",
)
for path, owner in (
    (f"/srv/{app}", "root"),
    (f"/srv/{app}/releases", "root"),
    (f"/srv/{app}/shared", app),
    (f"/srv/{app}/shared/uploads", app),
    (f"/etc/{app}", "root"),
):
    files.directory(name=f"Make {path}", path=path, user=owner, group=app, mode="750")

template("env", f"/etc/{app}/env", mode="600")
template("gunicorn.conf.py", f"/etc/{app}/gunicorn.conf.py", mode="640", group=app)
unit = template("app.service", f"/etc/systemd/system/{app}.service")
systemd.daemon_reload(name="Reload systemd", _if=unit.did_change)

sites = [
    template("http.conf", f"/etc/nginx/conf.d/{app}.conf"),
    template("headers.conf", f"/etc/nginx/snippets/{app}-headers.conf"),
    template("proxy.conf", f"/etc/nginx/snippets/{app}-proxy.conf"),
    template("site.conf", f"/etc/nginx/sites-enabled/{app}.conf"),
    files.link(name="Remove the default site", path="/etc/nginx/sites-enabled/default", present=False),
]
template("unavailable.html", f"/var/www/{app}/unavailable.html")
systemd.service(name="Start nginx", service="nginx.service", running=True, enabled=True)
systemd.service(name="Restart nginx", service="nginx.service", restarted=True, _if=reader.did_change)
systemd.service(
    name="Reload nginx", service="nginx.service", reloaded=True, _if=lambda: any(each.did_change() for each in sites)
)
systemd.service(name="Start the renewal of certificates", service="certbot.timer", running=True, enabled=True)

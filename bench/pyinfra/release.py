"""pyinfra: release the commit, unless it is live."""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.facts.files import File, Link
from pyinfra.operations import files, server, systemd

data = host.data
app: str = data.app
commit: str = data.commit
target = f"/srv/{app}/releases/{commit}"
ask = (
    "import urllib.request as u; "
    f'r = u.Request("http://127.0.0.1/health", headers={{"Host": "{data.domain}"}}); '
    "print(u.urlopen(r).read().decode())"
)
look = (
    f"for try in $(seq 300); do answer=$(python3 -c '{ask}' 2>/dev/null) && "
    f"case $answer in *'\"{commit}\"'*) exit 0;; esac; sleep 0.1; done; exit 1"
)

live = host.get_fact(Link, path=f"/srv/{app}/current")
if not host.get_fact(File, path=f"{target}/release.env"):
    files.directory(name="Make the release's folder", path=target, user="root", group=app, mode="755")
    files.put(name="Upload the commit", src=data.archive, dest=f"{target}.tar.gz", mode="600")
    server.shell(
        name="Unpack the commit",
        commands=[f"tar xzf {target}.tar.gz -C {target} --no-same-owner", f"rm {target}.tar.gz"],
    )
    server.shell(
        name="Make the virtual environment",
        commands=["/opt/uv/bin/uv sync --quiet --frozen --no-dev --compile-bytecode --python /usr/bin/python3"],
        _chdir=target,
        _env={"UV_SYSTEM_CERTS": "true", "UV_CACHE_DIR": "/var/cache/uv", "UV_PYTHON_DOWNLOADS": "never"},
    )
    server.shell(
        name="Name the release for the app",
        commands=[f"echo ZARPAR_RELEASE_ID={commit} >{target}/release.env"],
    )
if not live or live["link_target"] != target:
    migrate = f"set -a; . /etc/{app}/env; exec runuser -u {app} -- .venv/bin/flask --app wsgi db upgrade"
    server.shell(name="Migrate the database", commands=[f"sh -c {shlex.quote(migrate)}"], _chdir=target)

switch = files.link(name="Switch to the release", path=f"/srv/{app}/current", target=target, force=True)
systemd.service(name="Start the app", service=f"{app}.service", running=True, enabled=True)
systemd.service(name="Restart the app", service=f"{app}.service", restarted=True, _if=switch.did_change)
server.shell(name="Wait until the release answers", commands=[look], _if=switch.did_change)
server.shell(
    name="Remove old releases",
    commands=[f"ls -1dt /srv/{app}/releases/*/ | tail -n +6 | xargs -r rm -rf"],
    _if=switch.did_change,
)

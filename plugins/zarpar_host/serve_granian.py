"""Serves a release by granian, in the place of gunicorn. Runs with the release's own Python, from a copy beside it.

The environment says what: ZARPAR_RELEASE, ZARPAR_WSGI, ZARPAR_WORKER_CLASS ("granian:" and wsgi or asgi) and
RUNTIME_DIRECTORY; granian.json beside this file says how: what `settings` returned.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SETTINGS = "granian.json"
BACKLOG = 4096  # as with gunicorn; the kernel may allow less
HEADER_ROOM = 8192  # bytes for a request's first line
STYLE = '%(header{x-real-ip})s - - [%(time)s] "%(method)s %(path)s %(protocol)s" %(status)d %(dt_ms).0f'


def settings(app: Mapping[str, Any]) -> dict[str, Any]:
    """What granian.json says, from an app as zarpar-host gets it. workers 0: one for each CPU."""
    wanted = app["gunicorn"]
    largest = wanted["limit_request_fields"] * (wanted["limit_request_field_size"] or HEADER_ROOM)
    return {
        **{name: wanted[name] for name in ("workers", "threads", "graceful_timeout", "log_level", "access_log")},
        "buffer": HEADER_ROOM + min(largest, 1024 * 1024),
        "folder": f"/var/log/zarpar/{app['name']}" if app["logs"] == "file" else "",
    }


def logging_to(folder: str) -> dict[str, Any]:
    """Handlers for granian's logging: the journal, or files, which are opened anew when logrotate moved them."""
    if not folder:
        return {}
    handlers = {
        name: {
            "class": "logging.handlers.WatchedFileHandler",
            "formatter": formatter,
            "filename": f"{folder}/{file}",
        }
        for name, formatter, file in (("console", "generic", "error.log"), ("access", "access", "access.log"))
    }
    return {"handlers": handlers}


def give_way(niceness: int) -> None:
    """Let others go first (5), or no longer (0): whoever starts must not make the visitors of the others wait."""
    if resource.getrlimit(resource.RLIMIT_NICE)[0] >= 20:  # else there would be no way back
        for thread in Path("/proc/self/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), niceness)


def load(target: str, *, asgi: bool) -> Any:
    """The app, which knows its visitors by nginx's headers. Runs in each worker."""
    from granian.utils import proxies

    sys.path.insert(0, os.environ["ZARPAR_RELEASE"])
    module, _, names = target.partition(":")
    app: Any = importlib.import_module(module)
    for name in names.removesuffix("()").split("."):
        app = getattr(app, name)
    app = app() if names.endswith("()") else app
    # only nginx can reach the socket, and it overwrites these headers
    wrap: Callable[..., Any] = proxies.wrap_asgi_with_proxy_headers if asgi else proxies.wrap_wsgi_with_proxy_headers
    give_way(0)
    return wrap(app, trusted_hosts="*")


def ready() -> None:
    """Tell systemd that the socket is there, as gunicorn does: before its workers are."""
    address = os.environ.pop("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect("\0" + address[1:] if address.startswith("@") else address)
            notify.send(b"READY=1")


def main() -> None:
    """Serve until SIGTERM; what is asked for until then is answered first."""
    import granian
    from granian.constants import Interfaces
    from granian.http import HTTP1Settings
    from granian.log import LogLevels

    said = json.loads((Path(__file__).parent / SETTINGS).read_text())
    interface = os.environ["ZARPAR_WORKER_CLASS"].partition(":")[2]
    asgi = interface == "asgi"
    # no more than it can work at: a request that a busy worker takes waits for it, though others are free
    threads = {} if asgi else {"blocking_threads": said["threads"], "backpressure": said["threads"]}
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # logrotate's to gunicorn
    give_way(5)
    server = granian.Granian(
        os.environ["ZARPAR_WSGI"],
        uds=Path(os.environ["RUNTIME_DIRECTORY"]) / "gunicorn.sock",
        uds_permissions=0o660,
        interface=Interfaces(interface),
        workers=said["workers"] or len(os.sched_getaffinity(0)),
        backlog=BACKLOG,
        http1_settings=HTTP1Settings(keep_alive=asgi, max_buffer_size=said["buffer"]),
        websockets=asgi,
        respawn_failed_workers=True,
        log_level=LogLevels(said["log_level"]),
        log_dictconfig=logging_to(said["folder"]),
        log_access=said["access_log"],
        log_access_format=STYLE,
        workers_kill_timeout=said["graceful_timeout"],
        **threads,
    )
    server.on_startup(ready)
    server.serve(target_loader=functools.partial(load, asgi=asgi))


if __name__ == "__main__":
    main()

"""Sent to a host by `zarpar doctor`, and run there from memory: says what the host is like, and changes nothing.

Standard input: one line of JSON {token, path, seconds}. Standard output: one line of JSON with what was found. Then
the token is served on port 80 until standard input ends: by nginx from its ACME folder where it runs (a file, removed
at the end), by this process where nothing listens. Standard library only; any Python from 3.9 on runs it.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.server
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock")
ACME = Path("/var/www/zarpar/acme")
LISTENS = "0A"


def os_release() -> dict[str, str]:
    """The keys of os-release."""
    text = Path("/etc/os-release").read_text()
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key: value.strip("\"' ") for key, value in pairs}


def memory() -> dict[str, int]:
    """Megabytes of memory and of swap."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    found = {words[0].rstrip(":"): int(words[1]) // 1024 for words in lines if len(words) > 1}
    return {"memory_mb": found.get("MemTotal", 0), "swap_mb": found.get("SwapTotal", 0)}


def lock_holder() -> str:
    """Who holds one of apt's locks: a program's name and its process; empty when they are free."""
    for path in LOCKS:
        try:
            with Path(path).open("rb") as handle:
                asked = struct.pack("@hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
                kind, _, _, _, pid = struct.unpack("@hhqqi4x", fcntl.fcntl(handle, fcntl.F_GETLK, asked))
        except OSError:
            continue
        if kind != fcntl.F_UNLCK:
            return f"{program(pid)} (process {pid})"
    return ""


def program(pid: int) -> str:
    """The name of a process's program."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "a program"


def listener(port: int) -> str:
    """The program that listens on a port; empty when none does, "?" when it cannot be known."""
    sockets: set[str] = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if table.exists():
            rows = [line.split() for line in table.read_text().splitlines()[1:]]
            sockets |= {row[9] for row in rows if row[3] == LISTENS and int(row[1].split(":")[1], 16) == port}
    for folder in Path("/proc").iterdir() if sockets else ():
        try:
            links = [str(link.readlink()) for link in (folder / "fd").iterdir()] if folder.name.isdigit() else []
        except OSError:
            continue
        if any(link == f"socket:[{number}]" for link in links for number in sockets):
            return program(int(folder.name))
    return "?" if sockets else ""


def addresses() -> list[str]:
    """The host's own addresses that are not of its loopback or of a link."""
    argv = ["ip", "-json", "address"]
    try:
        told = subprocess.run(  # noqa: S603
            argv, capture_output=True, timeout=10, check=True
        ).stdout
        rows = [entry for link in json.loads(told) for entry in link.get("addr_info", [])]
        return [row["local"] for row in rows if row.get("scope") == "global"]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def booting() -> bool:
    """Whether cloud-init still does its first-boot work."""
    if shutil.which("cloud-init") is None:
        return False
    argv = ["cloud-init", "status"]
    done = subprocess.run(  # noqa: S603
        argv, capture_output=True, timeout=20, check=False
    )
    return b"running" in done.stdout


def gather() -> dict[str, Any]:
    """All that is told of the host."""
    disk = os.statvfs("/")
    return {
        "root": os.geteuid() == 0,
        "system": os_release(),
        "systemd": Path("/run/systemd/system").is_dir(),
        **memory(),
        "disk_free_mb": disk.f_bavail * disk.f_frsize // 2**20,
        "inodes_free": disk.f_favail if disk.f_files else None,
        "lock": lock_holder(),
        "broken_dpkg": any(Path("/var/lib/dpkg/updates").glob("*")),
        "booting": booting(),
        "addresses": addresses(),
        "port_80": listener(80),
        "ours": ACME.is_dir(),
        "clock": time.time(),
    }


def serve(token: str, path: str) -> Callable[[], None] | None:
    """Have the token served under a path on port 80; return what ends that, or None when it is not possible."""
    if os.geteuid() != 0:
        return None
    if listener(80) == "nginx" and ACME.is_dir():
        return serve_by_nginx(token, path)
    return None if listener(80) else serve_here(token, path)


def serve_by_nginx(token: str, path: str) -> Callable[[], None]:
    """A file in the folder that nginx shows to ACME servers."""
    file = ACME / path.lstrip("/")
    made = [folder for folder in (file.parent, file.parent.parent) if not folder.exists()]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(token)
    for readable in (*made, file):
        readable.chmod(0o755 if readable.is_dir() else 0o644)

    def stop() -> None:
        file.unlink()
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()

    return stop


def serve_here(token: str, path: str) -> Callable[[], None] | None:
    """An HTTP server that knows this one page."""

    class Page(http.server.BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            found = self.path == path
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            self.wfile.write(token.encode() if found else b"")

        def log_message(self, *_words: Any) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6 if Path("/proc/net/if_inet6").exists() else socket.AF_INET
        daemon_threads = True

        def server_bind(self) -> None:
            if self.address_family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()

    try:
        server = Server(("", 80), Page)
    except OSError:
        return None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_close


def main() -> None:
    """Tell what was found, then serve the token until standard input ends, at most so many seconds."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))  # so that what was made is removed
    request = json.loads(sys.stdin.readline())
    found = gather()
    stop = serve(request["token"], request["path"])
    try:
        print(json.dumps({**found, "serves": stop is not None, "clock": time.time()}), flush=True)
        select.select([sys.stdin], [], [], request["seconds"])
    finally:
        if stop:
            stop()


main()

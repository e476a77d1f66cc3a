"""Asks an app whether it is well: over its slot's own socket, or through nginx as a visitor would."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zarpar_host.errors import HostError

PROBE_LIMIT = 10.0
INTERVAL = 0.05


@dataclass(frozen=True)
class Check:
    """What a healthy answer is; see `health` in the apps model."""

    path: str
    status: int
    host: str
    body: str
    timeout: float
    passes: int

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Check:
        """From the normalised `health` of an app."""
        return cls(**{name: settings[name] for name in cls.__dataclass_fields__})


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, or over TLS to this host under the site's name."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class _SiteConnection(http.client.HTTPSConnection):
    """HTTPS to nginx on this host under the site's own name; who signed the certificate is not its question."""

    def __init__(self, name: str, timeout: float) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        super().__init__("127.0.0.1", 443, timeout=timeout, context=context)
        self.name = name
        self.tls = context

    def connect(self) -> None:
        raw = socket.create_connection(("127.0.0.1", 443), self.timeout)
        self.sock = self.tls.wrap_socket(raw, server_hostname=self.name)


def ask(connection: http.client.HTTPConnection, check: Check) -> str:
    """One request; empty when the answer is a healthy one, else what is wrong with it."""
    headers = {
        "Host": check.host,
        "X-Forwarded-Proto": "https",
        "User-Agent": "zarpar-health",
        "Connection": "close",
    }
    try:
        connection.request("GET", check.path, headers=headers)
        response = connection.getresponse()
        body = response.read(65_536).decode(errors="replace")
    except TimeoutError:
        return "no answer in time"
    except (OSError, http.client.HTTPException) as error:
        return f"no answer ({error.__class__.__name__}: {error})"
    finally:
        connection.close()
    if response.status != check.status:
        return f"answered {response.status}, not {check.status}: {body[:500].strip()}"
    if check.body and check.body not in body:
        return f"answered {response.status}, but without the text {check.body!r}: {body[:500].strip()}"
    return ""


def ask_socket(path: Path, check: Check, timeout: float = PROBE_LIMIT) -> str:
    """Ask the app behind one slot's socket: no other slot can answer for it."""
    return ask(_SocketConnection(path, timeout), check)


def ask_site(check: Check, tls: bool, timeout: float = PROBE_LIMIT) -> str:
    """Ask through nginx, as a visitor of the site would."""
    if tls:
        return ask(_SiteConnection(check.host, timeout), check)
    return ask(http.client.HTTPConnection("127.0.0.1", 80, timeout=timeout), check)


def gate(probe: Callable[[float], str], check: Check, alive: Callable[[], bool]) -> None:
    """Wait until `passes` probes in a row are healthy. Raises HostError at the time limit or when the app died."""
    deadline = time.monotonic() + check.timeout
    passed, problem = 0, "it was not asked"
    while passed < check.passes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise HostError(f"not healthy within {check.timeout:g} s: {problem}", kind="unhealthy")
        problem = probe(min(PROBE_LIMIT, max(left, 0.1)))
        passed = passed + 1 if not problem else 0
        if problem and not alive():
            raise HostError("the app ended while it started", detail=problem, kind="unhealthy")
        if problem or passed < check.passes:
            time.sleep(INTERVAL)

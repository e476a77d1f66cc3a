"""Asks a server as a visitor would: over the network, at the server's own address, under any name."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message

LIMIT = 10.0
PORTS = {"http": 80, "https": 443}


class NoAnswer(AssertionError):
    """Nothing came back. An AssertionError, since to a visitor that is a failed site."""


@dataclass(frozen=True, repr=False)
class Answer:
    """What came back; `headers.get_all(name)` tells doubled ones."""

    url: str
    status: int
    headers: Message
    body: bytes

    def header(self, name: str) -> str:
        """Return a header's value; empty without one, and with all values when it came more than once."""
        return ", ".join(self.headers.get_all(name, []))

    def __repr__(self) -> str:
        return f"<{self.status} of {self.url}>"

    def __str__(self) -> str:
        start = self.body[:300].decode(errors="replace")
        return f"{self.url} answered {self.status}\n{self.headers}{start}"


@dataclass(frozen=True)
class Visitor:
    """A visitor of one server."""

    address: str

    def ask(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Send one request, its path exactly as given. Who signed the certificate is not asked here."""
        scheme, _, rest = url.partition("://")
        name, slash, target = rest.partition("/")
        link = http.client.HTTPConnection(name, timeout=LIMIT)
        try:
            link.sock = self.handshake(name, unchecked()) if scheme == "https" else self.dial(PORTS[scheme])
            link.putrequest(method, slash + target or "/", skip_host=True, skip_accept_encoding=True)
            own = {"Host": name, "User-Agent": "zarpar-verify", "Connection": "close"}
            own |= {"Content-Length": str(len(body))} if body else {}
            for header, value in (own | dict(headers or {})).items():
                link.putheader(header, value)
            link.endheaders(body or None)
            response = link.getresponse()
            return Answer(url, response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"{url} at {self.address}: {error.__class__.__name__}: {error}") from error
        finally:
            link.close()

    def dial(self, port: int) -> socket.socket:
        """Connect to a port of the server."""
        try:
            return socket.create_connection((self.address, port), timeout=LIMIT)
        except OSError as error:
            raise NoAnswer(f"{self.address}: nothing answers on port {port}: {error}. Is a firewall closed?") from error

    def handshake(self, name: str, context: ssl.SSLContext) -> ssl.SSLSocket:
        """Connect to port 443 and agree on TLS under a name. Raises ssl.SSLError when one side refuses."""
        raw = self.dial(PORTS["https"])
        try:
            return context.wrap_socket(raw, server_hostname=name or None)
        except OSError:
            raw.close()
            raise

    def raw(self, sent: bytes, *, name: str = "") -> bytes:
        """Send bytes to port 80, or after a handshake under `name` to 443; return the first bytes that come back."""
        with self.handshake(name, unchecked()) if name else self.dial(PORTS["http"]) as link:
            link.sendall(sent)
            try:
                return link.recv(4096)
            except ConnectionResetError:
                return b""


def unchecked(*protocols: str) -> ssl.SSLContext:
    """Return TLS settings that accept any certificate; protocols: offered by ALPN."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context

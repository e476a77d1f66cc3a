"""Visitors: constant load of three kinds on one site, every answer looked at, every lost request kept.

Bounded: a fixed number of threads, each with a pause after each request, and only towards the address it is given.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import select
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import h2.config
import h2.connection
import h2.events

QUICK = ("/slow?seconds=0", "/", "/health", "/static/notes.css")
SLOW = "/slow?seconds=10"
EVERY = 20  # one request in so many is slow
PAUSE = 0.12  # seconds between two requests of one visitor
PATIENCE = 45.0  # seconds until an answer counts as lost


@dataclass(frozen=True)
class Trouble:
    """A request that a visitor would call failed. Times are monotonic."""

    began: float
    ended: float
    kind: str
    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind} {self.path} after {self.ended - self.began:.2f} s: {self.what}"


@dataclass
class Tally:
    """What the visitors saw."""

    counts: Counter[str] = field(default_factory=Counter)
    troubles: list[Trouble] = field(default_factory=list)
    seen: dict[str, tuple[float, float]] = field(default_factory=dict)  # release: its first and its last answer
    begin: float = field(default_factory=time.monotonic)
    end: float = 0.0

    def first_answer(self, commit: str) -> float:
        """When a release of this commit answered first; endless when it never did."""
        times = [first for release, (first, _) in self.seen.items() if release.startswith(commit)]
        return min(times, default=float("inf"))

    @property
    def total(self) -> int:
        return sum(self.counts[kind] for kind in ("new", "kept", "h2"))

    def __str__(self) -> str:
        kinds = f"new {self.counts['new']}, kept {self.counts['kept']}, HTTP/2 {self.counts['h2']}"
        slow = f", of them slow {self.counts['slow']}" if self.counts["slow"] else ""
        errors = sum(1 for one in self.troubles if one.what.startswith("answered 5"))
        lost = f"{len(self.troubles) - errors} lost, {errors} answered 5xx"
        seconds = (self.end or time.monotonic()) - self.begin
        return f"{self.total} requests ({kinds}{slow}), {self.total / max(seconds, 0.1):.0f}/s: {lost}"


class Load:
    """Visitors of https://domain/ at an address, while the body of the `with` statement runs.

    slow: also requests that last 10 s, one in 20. With no root certificate, plain HTTP without HTTP/2.
    """

    def __init__(self, address: str, domain: str, root_certificate: Path | None, *, slow: bool = False) -> None:
        self.address, self.domain, self.slow = address, domain, slow
        self.tally = Tally()
        self._root = root_certificate
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._slow_turns: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._faults: list[Exception] = []

    def __enter__(self) -> Tally:
        self._start(self._visit_anew, 2)
        self._start(self._visit_kept, 2)
        if self._root:
            self._start(self._visit_h2, 1)
        if self.slow:
            self._start(lambda: self._wait_long(self._once), 12)
            self._start(lambda: self._wait_long(self._kept_asker()), 12)
        return self.tally

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._over.set()
        for _ in self._threads:
            self._slow_turns.put(False)
        for thread in self._threads:
            thread.join(PATIENCE + 15)
        self.tally.end = time.monotonic()
        alive = [thread for thread in self._threads if thread.is_alive()]
        assert not alive, f"{len(alive)} visitors hang"
        if self._faults:
            raise self._faults[0]

    def _start(self, target: Callable[[], None], count: int) -> None:
        for _ in range(count):
            thread = threading.Thread(target=self._guarded, args=(target,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _guarded(self, target: Callable[[], None]) -> None:
        try:
            target()
        except Exception as fault:
            self._faults.append(fault)

    # -- visitors ------------------------------------------------------------------------------------------------

    def _visit_anew(self) -> None:
        self._visit(self._once)

    def _visit_kept(self) -> None:
        self._visit(self._kept_asker())

    def _visit(self, ask: Callable[[str], None]) -> None:
        number = 0
        while not self._over.wait(PAUSE):
            ask(QUICK[number % len(QUICK)])
            number += 1
            if self.slow and number % (EVERY - 1) == 0:
                self._slow_turns.put(True)

    def _wait_long(self, ask: Callable[[str], None]) -> None:
        while self._slow_turns.get() and not self._over.is_set():
            ask(SLOW)

    def _once(self, path: str) -> None:
        """A request over a connection of its own."""
        link = self._link()
        with contextlib.closing(link):
            self._ask(link, "new", path, {"Connection": "close"})

    def _kept_asker(self) -> Callable[[str], None]:
        """Requests over one connection for as long as the server keeps it."""
        link = self._link()

        def ask(path: str) -> None:
            link.drop_if_closed()
            if not self._ask(link, "kept", path, {}):
                link.close()

        return ask

    def _ask(self, link: http.client.HTTPConnection, kind: str, path: str, headers: dict[str, str]) -> bool:
        began = time.monotonic()
        try:
            link.request("GET", path, headers=headers)
            answer = link.getresponse()
            self._judge(began, kind, path, answer.status, answer.read())
        except (OSError, http.client.HTTPException) as error:
            self._lose(began, kind, path, f"{type(error).__name__}: {error}")
            return False
        return True

    def _link(self) -> _Link:
        return _Link(self.domain, self._dial)

    def _dial(self, *protocols: str) -> socket.socket:
        raw = socket.create_connection((self.address, 443 if self._root else 80), timeout=PATIENCE)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self._root:
            return raw
        trust = ssl.create_default_context(cafile=str(self._root))
        if protocols:
            trust.set_alpn_protocols(list(protocols))
        try:
            return trust.wrap_socket(raw, server_hostname=self.domain)
        except OSError:
            raw.close()
            raise

    # -- HTTP/2 --------------------------------------------------------------------------------------------------

    def _visit_h2(self) -> None:
        """One connection with several requests at a time; a new one when the server says goodbye."""
        number = 0
        while not self._over.is_set():
            began = time.monotonic()
            try:
                link = self._dial("h2")
            except OSError as error:
                self._lose(began, "h2", "(connection)", f"{type(error).__name__}: {error}")
                self._over.wait(PAUSE)
                continue
            with contextlib.closing(link):
                number = _Streams(self, link).run(number)

    # -- judging -------------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        return self._over.is_set()

    def _judge(self, began: float, kind: str, path: str, status: int, body: bytes) -> None:
        release, problem = "", ""
        if status != 200:
            problem = f"answered {status}: {body[:200]!r}"
        elif path.startswith(("/slow", "/health")):
            try:
                release = str(json.loads(body)["release"])
            except (ValueError, KeyError):
                problem = f"half an answer: {body[:200]!r}"
        elif (b"</html>" if path == "/" else b"}") not in body:
            problem = f"half an answer: {body[-200:]!r}"
        if problem:
            self._lose(began, kind, path, problem)
            return
        now = time.monotonic()
        with self._lock:
            self._count(kind, path)
            if release:
                self.tally.seen[release] = (self.tally.seen.get(release, (now, now))[0], now)

    def _lose(self, began: float, kind: str, path: str, what: str) -> None:
        with self._lock:
            self._count(kind, path)
            self.tally.troubles.append(Trouble(began, time.monotonic(), kind, path, what))

    def _count(self, kind: str, path: str) -> None:
        self.tally.counts[kind] += 1
        if path == SLOW:
            self.tally.counts["slow"] += 1


class _Link(http.client.HTTPConnection):
    """A connection to an address under another name; http.client connects again when the server closed it."""

    def __init__(self, domain: str, dial: Callable[[], socket.socket]) -> None:
        super().__init__(domain, timeout=PATIENCE)
        self._dial = dial

    def connect(self) -> None:
        self.sock = self._dial()

    def drop_if_closed(self) -> None:
        """Before it is used again: a server may close a connection that nobody used for a while."""
        if self.sock and select.select([self.sock], [], [], 0)[0]:
            self.close()


@dataclass
class _Stream:
    began: float
    path: str
    status: int = 0
    body: bytes = b""


class _Connection(h2.connection.H2Connection):
    """Goes on to read what the server still answers after its goodbye, as browsers do; h2 by itself does not."""

    def _receive_goaway_frame(self, frame: Any) -> Any:
        taken = super()._receive_goaway_frame(frame)
        self.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
        return taken


class _Streams:
    """The requests on one HTTP/2 connection."""

    AT_ONCE = 4

    def __init__(self, load: Load, link: socket.socket) -> None:
        self.load, self.link = load, link
        self.open: dict[int, _Stream] = {}
        self.http = _Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.closing = False
        self.http.initiate_connection()

    def run(self, number: int) -> int:
        """Ask, until the server or the load ends; return how many requests were made in all."""
        self.link.settimeout(PAUSE)
        try:
            while self.open or not (self.load.over or self.closing):
                while not (self.load.over or self.closing) and self._quick() < self.AT_ONCE:
                    number += 1
                    self._ask(SLOW if self.load.slow and number % EVERY == 0 else QUICK[number % len(QUICK)])
                self._listen()
                if any(time.monotonic() - one.began > PATIENCE for one in self.open.values()):
                    raise TimeoutError("no answer in time")
        except OSError as error:
            for one in self.open.values():
                self.load._lose(one.began, "h2", one.path, f"{type(error).__name__}: {error}")
        return number

    def _quick(self) -> int:
        return sum(1 for one in self.open.values() if one.path != SLOW)

    def _ask(self, path: str) -> None:
        stream = self.http.get_next_available_stream_id()
        names = {":method": "GET", ":scheme": "https", ":authority": self.load.domain, ":path": path}
        self.http.send_headers(stream, list(names.items()), end_stream=True)
        self.open[stream] = _Stream(time.monotonic(), path)

    def _listen(self) -> None:
        if data := self.http.data_to_send():
            self.link.sendall(data)
        until = time.monotonic() + PAUSE  # whatever comes, only so many requests a second
        while (left := until - time.monotonic()) > 0:
            for event in self._events(left):
                self._take(event)
            if data := self.http.data_to_send():
                self.link.sendall(data)

    def _events(self, limit: float) -> Iterator[h2.events.Event]:
        self.link.settimeout(max(limit, 0.01))
        try:
            data = self.link.recv(65_536)
        except TimeoutError:
            return
        if not data:
            raise ConnectionResetError("the server closed the connection")
        yield from self.http.receive_data(data)

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived(stream_id=stream, headers=headers) if stream in self.open:
                self.open[stream].status = int(dict(headers or [])[":status"])
            case h2.events.DataReceived(stream_id=stream, data=data, flow_controlled_length=length):
                if stream in self.open:
                    self.open[stream].body += data or b""
                self.http.acknowledge_received_data(length or 0, stream)
            case h2.events.StreamEnded(stream_id=stream) if stream in self.open:
                one = self.open.pop(stream)
                self.load._judge(one.began, "h2", one.path, one.status, one.body)
            case h2.events.StreamReset(stream_id=stream, error_code=code) if stream in self.open:
                one = self.open.pop(stream)
                self.load._lose(one.began, "h2", one.path, f"reset with code {code}")
            case h2.events.ConnectionTerminated(last_stream_id=last):
                self.closing = True
                for stream in [stream for stream in self.open if stream > (last or 0)]:
                    del self.open[stream]  # said not to be begun: a browser asks again over the next connection

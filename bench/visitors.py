"""Visitors of a site at a steady pace, whatever it answers: `python -m bench.visitors ADDRESS PORT HOST`.

Each request has a connection of its own. Runs until standard input ends, and prints what the visitors got as JSON.
"""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACE = 60  # requests a second
SLOW_EVERY = 15
PATIENCE = 20.0


@dataclass(frozen=True)
class Visit:
    """What visitors got: how many asked, how many got no answer or a wrong one, and how long the quick ones waited."""

    requests: int
    lost: int
    p50: float  # milliseconds
    p99: float
    longest: float
    seen: list[str]  # the texts that were answered, in the order of their first appearance


class Visitors:
    """Visitors of one site, from now until `end`."""

    def __init__(self, address: str, port: int, host: str) -> None:
        argv = [sys.executable, "-m", "bench.visitors", address, str(port), host]
        self._process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603

    def end(self) -> Visit:
        """Let the last ones leave, and tell what all got."""
        out, _ = self._process.communicate(timeout=PATIENCE + 30)
        return Visit(**json.loads(out))


def percentile(values: Iterable[float], share: float) -> float:
    """The value that this share of all values does not exceed; 0 for none."""
    found = sorted(values)
    return found[max(math.ceil(len(found) * share) - 1, 0)] if found else 0.0


async def _visit(address: str, port: int, host: str) -> Visit:
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    times: list[float] = []
    seen: dict[str, None] = {}
    lost = 0

    async def once(path: str) -> None:
        nonlocal lost
        begin = time.monotonic()
        try:
            text = await asyncio.wait_for(_ask(address, port, host, path), PATIENCE)
        except (OSError, ValueError, TimeoutError):
            lost += 1
            return
        seen.setdefault(text)
        if path == "/hello":
            times.append((time.monotonic() - begin) * 1000)

    begin, number = time.monotonic(), 0
    tasks = set()
    while not over.done():
        tasks.add(asyncio.create_task(once("/slow" if number % SLOW_EVERY == SLOW_EVERY - 1 else "/hello")))
        number += 1
        await asyncio.sleep(max(0.0, begin + number / PACE - time.monotonic()))
    await asyncio.gather(*tasks)
    return Visit(number, lost, percentile(times, 0.5), percentile(times, 0.99), max(times, default=0), list(seen))


async def _ask(address: str, port: int, host: str, path: str) -> str:
    """Return the body of a good answer; anything else raises ValueError or OSError."""
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise ValueError(head[:100])
    return body.decode()


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(_visit(sys.argv[1], int(sys.argv[2]), sys.argv[3])))))  # noqa: T201

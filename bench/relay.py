"""A longer line: a relay on loopback that hands every byte on after a delay, in each direction.

Runs as a process of its own (`python -m bench.relay DELAY_MS ADDRESS PORT`), so that it does not share the measuring
program's interpreter. It prints the port that it listens on, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections import deque
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class Relay:
    """A relay to one address, while it is open. `delay` is the round trip in milliseconds."""

    def __init__(self, address: str, delay: int, port: int = 22) -> None:
        argv = [sys.executable, "-m", "bench.relay", str(delay), address, str(port)]
        self._process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
        assert self._process.stdout  # noqa: S101 - asked for above
        self.port = int(self._process.stdout.readline())

    def close(self) -> None:
        """Stop it; what still goes through it is cut."""
        self._process.terminate()
        self._process.communicate(timeout=10)


async def serve(delay: float, address: str, port: int) -> None:
    """Relay to an address until standard input ends; `delay` is one direction's, in seconds."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The visitor believes to be connected at once. On a real line its first byte would arrive after three ways,
        # and so does the connection here.
        await asyncio.sleep(3 * delay)
        try:
            far_reader, far_writer = await asyncio.open_connection(address, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_carry(reader, far_writer, delay), _carry(far_reader, writer, delay))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - that is its answer
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Hand on what comes, each piece `delay` seconds after it came, until the end of the stream."""
    loop = asyncio.get_running_loop()
    waiting: deque[tuple[float, bytes]] = deque()
    more = asyncio.Event()

    async def read() -> None:
        while True:
            with contextlib.suppress(OSError):
                data = await reader.read(65_536)
                waiting.append((loop.time() + delay, data))
                more.set()
                if data:
                    continue
            waiting.append((loop.time() + delay, b""))
            more.set()
            return

    async def write() -> None:
        while True:
            while not waiting:
                more.clear()
                await more.wait()
            due, data = waiting.popleft()
            await asyncio.sleep(due - loop.time())
            if not data:
                break
            with contextlib.suppress(OSError):
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()

    await asyncio.gather(read(), write())


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]) / 2000, sys.argv[2], int(sys.argv[3])))

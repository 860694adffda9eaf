"""Goodput under overload: `python -m bench.overload` asks with 8 and then with 64 closed-loop clients.

Each client sends its next request as soon as it has the last answer, also after a 429: worse than any client
that honours Retry-After. The service runs as a process of its own, with its queue bounded at 16.
"""

import argparse
import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httptools
import httpx
from rich.console import Console
from rich.table import Table

SAMPLE = Path(__file__).parent.parent / "samples" / "shapes-1.jpg"
TIMEOUT_MS = 10_000


@dataclass
class Tally:
    """What came back: count by status, the slowest accepted answer, refusals that gave no Retry-After."""

    statuses: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    without_retry_after: int = 0


class Client(asyncio.Protocol):
    """One connection that asks again and again; a generator of load, parsed by httptools."""

    def __init__(self, request: bytes, tally: Tally, until: float) -> None:
        self._request, self._tally, self._until = request, tally, until
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP, so it is
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        if time.monotonic() >= self._until:
            self._transport.close()
            self.finished.set_result(None)
            return
        self._parser = httptools.HttpResponseParser(self)
        self._retry_after = False
        self._asked = time.monotonic()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._retry_after |= name.lower() == b"retry-after"

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        self._tally.statuses[status] += 1
        if status == 200:
            self._tally.slowest = max(self._tally.slowest, time.monotonic() - self._asked)
        elif not self._retry_after:
            self._tally.without_retry_after += 1
        asyncio.get_running_loop().call_soon(self._ask)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self._tally.statuses[-1] += 1
            self.finished.set_result(None)


async def load(port: int, clients: int, seconds: float) -> Tally:
    """Ask with `clients` connections for `seconds`."""
    body = SAMPLE.read_bytes()
    head = (
        f"POST /detect HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    tally, until = Tally(), time.monotonic() + seconds
    loop = asyncio.get_running_loop()
    pairs = [
        await loop.create_connection(lambda: Client(head.encode() + body, tally, until), "127.0.0.1", port)
        for _ in range(clients)
    ]
    await asyncio.gather(*(client.finished for _, client in pairs))
    return tally


@contextmanager
def server(**settings: str) -> Iterator[tuple[int, int]]:
    """The service in a process of its own: its port and process id, once it is ready."""
    port = _free_port()
    environment = {**os.environ, "RCNN_PORT": str(port)}
    environment |= {f"RCNN_{name.upper()}": value for name, value in settings.items()}
    program = "from app.cli import main; main()"
    command = [sys.executable, "-c", program, "serve"]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process,  # noqa: S603  # ourselves
    ):
        try:
            _wait_until_ready(port)
            yield port, process.pid
        finally:
            process.send_signal(signal.SIGTERM)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_until_ready(port: int, seconds: float = 120) -> None:
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        with suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200:
                return
        time.sleep(0.1)
    raise SystemExit(f"the service was not ready within {seconds} s")


def resident_mebibytes(pid: int) -> float:
    """Memory of a process that lies in RAM."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def main() -> None:
    """Print a line for each load, and the ratio of their goodputs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    seconds: float = parser.parse_args().seconds
    table = Table("clients", "200/s", "statuses", "429 without Retry-After", "slowest 200 s", "RSS MiB")
    rates = {}
    with server(model="shapes", max_queue="16", timeout_ms=str(TIMEOUT_MS)) as (port, pid):
        asyncio.run(load(port, 8, 3))  # warm-up
        for clients in (8, 64, 8, 64):
            tally = asyncio.run(load(port, clients, seconds))
            rates.setdefault(clients, []).append(tally.statuses[200] / seconds)
            table.add_row(
                str(clients),
                f"{rates[clients][-1]:.1f}",
                str(dict(tally.statuses)),
                str(tally.without_retry_after),
                f"{tally.slowest:.2f}",
                f"{resident_mebibytes(pid):.0f}",
            )
        health = httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=10).status_code
    Console().print(table)
    print(
        f"goodput at 64 clients over that at 8: {sum(rates[64]) / sum(rates[8]):.2f}; ready after: {health}"
    )


if __name__ == "__main__":
    main()

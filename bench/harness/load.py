"""The load generator, in a process of its own: `measure(target, images, plan)`.

Closed loop: each connection sends its next request when the last one is answered. Open loop (`rate`):
requests are due at fixed times, or at those of a Poisson process (`seed`), whatever the server does, and
latency counts from the time a request was due, not from when a connection was free to send it. Otherwise a
server that stalls would hide the requests that it delays ("coordinated omission"; wrk2 counts the same way).
"""

import asyncio
import base64
import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import httptools
import uvloop

from app.commands.bench.tally import LoadPlan, LoadResult, Tally, summarize
from bench.harness.arrivals import due_times
from bench.harness.processes import ROOT

__all__ = ["CONNECTION_LOST", "ENCODINGS", "TIMED_OUT", "LoadGenerator", "Target", "combine", "measure"]
__all__ += ["LoadPlan", "LoadResult", "Tally", "summarize"]

TIMED_OUT, CONNECTION_LOST = 0, -1  # in place of a status: no answer in time; the connection broke
BOUNDARY = "bench-7b1f"
ENCODINGS = ("raw", "multipart", "json")


@dataclass(frozen=True)
class Target:
    """A server's route, and the encoding of the image: raw, multipart part `image`, base64 in JSON."""

    port: int
    path: str = "/detect"
    encoding: str = "raw"

    def request(self, image: bytes) -> bytes:
        """The bytes of one request."""
        media_type = "image/jpeg"
        if self.encoding == "json":
            media_type, image = "application/json", b'{"image": "%s"}' % base64.b64encode(image)
        if self.encoding == "multipart":
            media_type = f"multipart/form-data; boundary={BOUNDARY}"
            part = (
                'Content-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg'
            )
            image = f"--{BOUNDARY}\r\n{part}\r\n\r\n".encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()
        return (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Content-Type: {media_type}\r\nContent-Length: {len(image)}\r\n\r\n"
        ).encode() + image


def combine(rounds: Sequence[LoadResult]) -> LoadResult:
    """Several rounds of a load as one: medians of rates and times, the slowest answer, sums of the counts."""
    errors = sum((Counter(result.errors) for result in rounds), Counter[str]())
    return LoadResult(
        images_per_second=median(result.images_per_second for result in rounds),
        p50_ms=median(result.p50_ms for result in rounds),
        p95_ms=median(result.p95_ms for result in rounds),
        p99_ms=median(result.p99_ms for result in rounds),
        slowest_ms=max(result.slowest_ms for result in rounds),
        answered=sum(result.answered for result in rounds),
        errors=dict(errors),
        without_retry_after=sum(result.without_retry_after for result in rounds),
    )


class Connection(asyncio.Protocol):
    """One TCP connection: one request at a time, until one side closes it."""

    def __init__(self) -> None:
        self.alive = False
        self._answer: asyncio.Future[tuple[int, bool]] | None = None

    async def exchange(self, request: bytes) -> tuple[int, bool]:
        """Status, and whether Retry-After was there; CONNECTION_LOST if it broke."""
        self._parser, self._retry_after = httptools.HttpResponseParser(self), False
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP, so it is
        self._transport, self.alive = transport, True

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._retry_after |= name.lower() == b"retry-after"

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.close()
        self._resolve(self._parser.get_status_code())

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        self._resolve(CONNECTION_LOST)

    def _resolve(self, status: int) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_result((status, self._retry_after))

    def close(self) -> None:
        """Close at once."""
        self.alive = False
        self._transport.abort()


class Client:
    """Sends requests over one kept connection, and opens it again if the server closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: Connection | None = None

    async def send(self, request: bytes) -> tuple[int, bool]:
        """As `Connection.exchange`; a kept connection that broke is tried once more, as HTTP clients do."""
        if self._connection and self._connection.alive:
            answer = await self._connection.exchange(request)
            if answer[0] != CONNECTION_LOST:
                return answer
        loop = asyncio.get_running_loop()
        try:
            _, self._connection = await loop.create_connection(Connection, "127.0.0.1", self._port)
        except OSError:
            return CONNECTION_LOST, False
        return await self._connection.exchange(request)

    def close(self) -> None:
        """Close the connection; the next `send` connects again."""
        if self._connection and self._connection.alive:
            self._connection.close()


class LoadGenerator:
    """Sends the images in turn, as the plan says, and counts the answers."""

    def __init__(self, target: Target, images: Sequence[bytes], plan: LoadPlan) -> None:
        self.tally = Tally()
        self._target, self._plan = target, plan
        self._requests = [target.request(image) for image in images]
        self._count = 0
        self._started = time.perf_counter()

    async def run(self) -> Tally:
        """Return when the last request is answered or timed out."""
        self._started = time.perf_counter()
        await (self._open_loop() if self._plan.rate else self._closed_loop())
        return self.tally

    async def _closed_loop(self) -> None:
        clients = [Client(self._target.port) for _ in range(self._plan.connections)]
        await asyncio.gather(*map(self._repeat, clients))

    async def _repeat(self, client: Client) -> None:
        most = self._plan.requests or math.inf
        while (now := self._now()) < self._plan.seconds and self._count < most:
            await self._send(client, now)
        client.close()

    async def _open_loop(self) -> None:
        idle: list[Client] = []
        free = asyncio.Semaphore(self._plan.connections)
        requests = []
        for due in due_times(self._plan.rate, self._plan.seconds, self._plan.seed):
            await asyncio.sleep(due - self._now())
            requests.append(asyncio.create_task(self._send_when_free(idle, free, due)))
        await asyncio.gather(*requests)
        for client in idle:
            client.close()

    async def _send_when_free(self, idle: list[Client], free: asyncio.Semaphore, due: float) -> None:
        async with free:
            client = idle.pop() if idle else Client(self._target.port)
            await self._send(client, due)
            idle.append(client)

    async def _send(self, client: Client, due: float) -> None:
        request = self._requests[self._count % len(self._requests)]
        self._count += 1
        try:
            async with asyncio.timeout(self._plan.timeout):
                status, retry_after = await client.send(request)
        except TimeoutError:
            client.close()
            status, retry_after = TIMED_OUT, False
        now = self._now()
        self.tally.add(status, retry_after, now - due, now)

    def _now(self) -> float:
        return time.perf_counter() - self._started


def measure(target: Target, images: Sequence[Path], plan: LoadPlan) -> LoadResult:
    """Run the generator in a process of its own, so that it shares no interpreter with anything."""
    arguments = {"target": asdict(target), "images": list(map(str, images)), "plan": asdict(plan)}
    command = [sys.executable, "-m", "bench.harness.load", json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603  # ourselves
    return LoadResult(**json.loads(done.stdout))


def main() -> None:
    """Run the load that the argument describes, and print its result; both are JSON."""
    arguments = json.loads(sys.argv[1])
    images = [Path(name).read_bytes() for name in arguments["images"]]
    plan = LoadPlan(**arguments["plan"])
    tally = uvloop.run(LoadGenerator(Target(**arguments["target"]), images, plan).run())
    print(json.dumps(asdict(summarize(tally, plan))))


if __name__ == "__main__":
    main()

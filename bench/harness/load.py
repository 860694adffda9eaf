"""The load generator, a process: `python -m bench.harness.load --port 8000 --image FILE --connections 4`.

Closed loop: each connection asks again as soon as it has its answer. Open loop (`--rate`): requests are due
at fixed times, or at those of a Poisson process (`--seed`), whatever the server does, and latency counts
from the time a request was due, not from when a connection was free to send it: a server that stalls cannot
hide the requests it kept from being sent ("coordinated omission"; wrk2 counts in the same way).
"""

import argparse
import asyncio
import base64
import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import httptools
import uvloop

from bench.harness.arrivals import due_times

NO_ANSWER, LOST = 0, -1  # in place of a status: nobody answered in time; the connection broke
BOUNDARY = "bench-7b1f"


@dataclass(frozen=True)
class Target:
    """Where to ask, and how the image lies in the body: raw, multipart part `image`, base64 in JSON."""

    port: int
    path: str = "/detect"
    encoding: str = "raw"

    def request(self, image: bytes) -> bytes:
        """The bytes of one request."""
        kind = "image/jpeg"
        if self.encoding == "json":
            kind, image = "application/json", b'{"image": "%s"}' % base64.b64encode(image)
        if self.encoding == "multipart":
            kind = f"multipart/form-data; boundary={BOUNDARY}"
            part = (
                'Content-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg'
            )
            image = f"--{BOUNDARY}\r\n{part}\r\n\r\n".encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()
        return (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(image)}\r\n\r\n"
        ).encode() + image


@dataclass(frozen=True)
class Plan:
    """How to ask: with `connections` for `seconds`; at `rate` requests a second, or 0 for a closed loop.

    A closed loop ends earlier when it has asked `requests` times, unless that is 0.
    """

    connections: int
    seconds: float
    rate: float = 0.0
    patience: float = 600.0  # seconds after which a request that is out counts as not answered
    requests: int = 0
    seed: int = 0  # of an open loop's random times; 0: evenly


@dataclass
class Tally:
    """What came back; latencies are of 200s alone, in seconds."""

    latencies: list[float] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)  # when those 200s came, from the start
    statuses: Counter[int] = field(default_factory=Counter)
    without_retry_after: int = 0

    def add(self, status: int, retry_after: bool, latency: float, finished: float) -> None:
        """Count one request."""
        self.statuses[status] += 1
        if status == 200:
            self.latencies.append(latency)
            self.finished.append(finished)
        elif status == 429 and not retry_after:
            self.without_retry_after += 1


@dataclass(frozen=True)
class Figures:
    """A run in numbers: milliseconds of answered requests, everything else as errors by status."""

    images_per_second: float
    p50_ms: float
    p99_ms: float
    slowest_ms: float
    answered: int
    errors: dict[str, int]
    without_retry_after: int


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not pass; nan of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def figures(tally: Tally, plan: Plan) -> Figures:
    """Rates: until the last answer (closed loop), or of those answered within the time (open loop)."""
    if plan.rate:
        rate = sum(moment <= plan.seconds for moment in tally.finished) / plan.seconds
    else:
        rate = len(tally.finished) / max(tally.finished, default=math.inf)
    p50, p99, slowest = (percentile(tally.latencies, share) * 1000 for share in (0.5, 0.99, 1.0))
    errors = {str(status): count for status, count in sorted(tally.statuses.items()) if status != 200}
    return Figures(rate, p50, p99, slowest, len(tally.latencies), errors, tally.without_retry_after)


def middle(rounds: Sequence[Figures]) -> Figures:
    """Several rounds of a load as one: medians of rates and times, the slowest answer, all the errors."""
    errors = sum((Counter(one.errors) for one in rounds), Counter[str]())
    return Figures(
        images_per_second=median(one.images_per_second for one in rounds),
        p50_ms=median(one.p50_ms for one in rounds),
        p99_ms=median(one.p99_ms for one in rounds),
        slowest_ms=max(one.slowest_ms for one in rounds),
        answered=sum(one.answered for one in rounds),
        errors=dict(errors),
        without_retry_after=sum(one.without_retry_after for one in rounds),
    )


class Connection(asyncio.Protocol):
    """One TCP connection: one request at a time, until one side hangs up."""

    def __init__(self) -> None:
        self.alive = False
        self._answer: asyncio.Future[tuple[int, bool]] | None = None

    async def exchange(self, request: bytes) -> tuple[int, bool]:
        """Status, and whether Retry-After was there; LOST when it broke."""
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
        self._settle(self._parser.get_status_code())

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        self._settle(LOST)

    def _settle(self, status: int) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_result((status, self._retry_after))

    def close(self) -> None:
        """Hang up."""
        self.alive = False
        self._transport.abort()


class Line:
    """Asks over one connection, which is kept, and made again where the server closed it in between."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: Connection | None = None

    async def ask(self, request: bytes) -> tuple[int, bool]:
        """As `Connection.exchange`; a kept connection that broke is tried once more, as clients do."""
        if self._connection and self._connection.alive:
            answer = await self._connection.exchange(request)
            if answer[0] != LOST:
                return answer
        loop = asyncio.get_running_loop()
        try:
            _, self._connection = await loop.create_connection(Connection, "127.0.0.1", self._port)
        except OSError:
            return LOST, False
        return await self._connection.exchange(request)

    def close(self) -> None:
        """Hang up; the next `ask` connects again."""
        if self._connection and self._connection.alive:
            self._connection.close()


class Asker:
    """Asks with the images in turn, and keeps the tally."""

    def __init__(self, target: Target, images: Sequence[bytes], plan: Plan) -> None:
        self.tally = Tally()
        self._target, self._plan = target, plan
        self._requests = [target.request(image) for image in images]
        self._count = 0
        self._started = time.perf_counter()

    async def run(self) -> Tally:
        """Everything the plan says; returns when the last request is answered or given up."""
        self._started = time.perf_counter()
        await (self._open() if self._plan.rate else self._closed())
        return self.tally

    async def _closed(self) -> None:
        lines = [Line(self._target.port) for _ in range(self._plan.connections)]
        await asyncio.gather(*map(self._again_and_again, lines))

    async def _again_and_again(self, line: Line) -> None:
        while (now := self._now()) < self._plan.seconds and not self._enough:
            await self._ask(line, now)
        line.close()

    @property
    def _enough(self) -> bool:
        return 0 < self._plan.requests <= self._count

    async def _open(self) -> None:
        idle: list[Line] = []
        free = asyncio.Semaphore(self._plan.connections)
        requests = []
        for due in due_times(self._plan.rate, self._plan.seconds, self._plan.seed):
            await asyncio.sleep(due - self._now())
            requests.append(asyncio.create_task(self._ask_when_free(idle, free, due)))
        await asyncio.gather(*requests)
        for line in idle:
            line.close()

    async def _ask_when_free(self, idle: list[Line], free: asyncio.Semaphore, due: float) -> None:
        async with free:
            line = idle.pop() if idle else Line(self._target.port)
            await self._ask(line, due)
            idle.append(line)

    async def _ask(self, line: Line, due: float) -> None:
        request = self._requests[self._count % len(self._requests)]
        self._count += 1
        try:
            async with asyncio.timeout(self._plan.patience):
                status, retry_after = await line.ask(request)
        except TimeoutError:
            line.close()
            status, retry_after = NO_ANSWER, False
        now = self._now()
        self.tally.add(status, retry_after, now - due, now)

    def _now(self) -> float:
        return time.perf_counter() - self._started


def measure(target: Target, images: Sequence[Path], plan: Plan) -> Figures:
    """Run the generator in a process of its own, so that it shares no interpreter with anything."""
    command = [sys.executable, "-m", "bench.harness.load", "--port", str(target.port), "--path", target.path]
    command += ["--encoding", target.encoding, "--connections", str(plan.connections)]
    command += ["--seconds", str(plan.seconds), "--rate", str(plan.rate), "--patience", str(plan.patience)]
    command += ["--requests", str(plan.requests), "--seed", str(plan.seed)]
    command += [part for image in images for part in ("--image", str(image))]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603  # ourselves
    return Figures(**json.loads(done.stdout))


def main() -> None:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/detect")
    parser.add_argument("--encoding", choices=("raw", "multipart", "json"), default="raw")
    parser.add_argument("--image", type=Path, action="append", required=True, help="asked for in turn")
    parser.add_argument("--connections", type=int, default=1, help="open loop: the most there may be")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, default=0, help="requests a second; 0: closed loop")
    parser.add_argument("--patience", type=float, default=600, help="seconds to wait for one answer")
    parser.add_argument("--requests", type=int, default=0, help="closed loop: the most; 0: until time is up")
    parser.add_argument("--seed", type=int, default=0, help="open loop: random times; 0: evenly")
    given = parser.parse_args()
    plan = Plan(given.connections, given.seconds, given.rate, given.patience, given.requests, given.seed)
    images = [path.read_bytes() for path in given.image]
    tally = uvloop.run(Asker(Target(given.port, given.path, given.encoding), images, plan).run())
    print(json.dumps(asdict(figures(tally, plan))))


if __name__ == "__main__":
    main()

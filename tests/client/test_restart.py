"""A server that restarts under many requests, with the real program."""

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

from rcnn_client import AsyncClient, Client, Detections
from rcnn_client.clients import LIMITS, AttemptResult
from tests.support.fakes import FINDS, picture
from tests.support.process import Program

pytestmark = pytest.mark.process

IMAGES, IN_FLIGHT, RESTART_AT = 200, 16, 60


class Seen:
    """Counts statuses and errors; a thread may wait for the next of a kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._changed = threading.Condition()

    def add(self, kind: str) -> None:
        with self._changed:
            self.counts[kind] += 1
            self._changed.notify_all()

    def wait(self, kind: str) -> None:
        with self._changed:
            before = self.counts[kind]
            assert self._changed.wait_for(lambda: self.counts[kind] > before, 60), f"no {kind}: {self.counts}"

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Count the error of a request."""
        try:
            yield
        except httpx.TransportError as error:
            lost = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
            self.add("lost" if lost else type(error).__name__)
            raise


class Counting(httpx.HTTPTransport):
    """The real transport, counted."""

    seen: Seen

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self.seen.failures():
            response = super().handle_request(request)
        self.seen.add(str(response.status_code))
        return response


class CountingAsync(httpx.AsyncHTTPTransport):
    """The same for asyncio."""

    seen: Seen

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        with self.seen.failures():
            response = await super().handle_async_request(request)
        self.seen.add(str(response.status_code))
        return response


def restart(program: Program, start: Callable[..., Program], seen: Seen) -> Program:
    """Stop the server; start another at its port after a lost connection, ready after a 503."""
    port = program.port
    program.terminate()
    assert program.ended() == 0
    seen.wait("lost")
    another = start("--loading", "--seconds", "0.01", port=str(port), max_queue="1")
    another.logged("listening")
    seen.wait("503")
    another.process.send_signal(signal.SIGUSR1)
    return another


def check_all(found: list[AttemptResult], seen: Seen, *obstacles: str) -> None:
    """Each image's own answer, in order, once; and each kind of obstacle was met."""
    assert [type(one).__name__ for one in found] == ["Detections"] * IMAGES
    results = [one for one in found if isinstance(one, Detections)]
    assert [one.width for one in results] == [64 + number for number in range(IMAGES)]
    assert len({one.request_id for one in results}) == IMAGES
    shares = np.array([box for _, _, box in FINDS[:2]])
    for one in results:
        np.testing.assert_allclose(one.boxes, shares * ([one.width, 48] * 2), rtol=1e-5)
    assert min(seen.counts[kind] for kind in obstacles) >= 1, seen.counts
    assert seen.counts["200"] >= IMAGES


def pictures() -> Iterable[bytes]:
    return (picture(64 + number, 48) for number in range(IMAGES))


def test_a_restart_in_the_middle_loses_nothing(start: Callable[..., Program]) -> None:
    program = start("--seconds", "0.01", max_queue="1")
    program.logged("ready")
    transport, found = Counting(limits=LIMITS), []
    seen = transport.seen = Seen()
    url = f"http://127.0.0.1:{program.port}"
    with ThreadPoolExecutor(1) as meanwhile, Client(url, retries=500, transport=transport) as client:
        for outcome in client.detect_many(pictures(), in_flight=IN_FLIGHT):
            found.append(outcome)
            if len(found) == RESTART_AT:
                restarted = meanwhile.submit(restart, program, start, seen)
        check_all(found, seen, "503", "lost")
        another = restarted.result(60)
    another.terminate()
    assert another.ended() == 0


async def test_a_restart_in_the_middle_loses_nothing_async(start: Callable[..., Program]) -> None:
    program = start("--seconds", "0.01", max_queue="1")
    await asyncio.to_thread(program.logged, "ready")
    transport, found = CountingAsync(limits=LIMITS), []
    seen = transport.seen = Seen()
    url = f"http://127.0.0.1:{program.port}"
    async with AsyncClient(url, retries=500, transport=transport) as client:
        outcomes: AsyncIterator[AttemptResult] = client.detect_many(pictures(), in_flight=IN_FLIGHT)
        async for outcome in outcomes:
            found.append(outcome)
            if len(found) == RESTART_AT:
                restarted = asyncio.create_task(asyncio.to_thread(restart, program, start, seen))
    await restarted
    check_all(found, seen, "429", "503", "lost")

"""The client's patience: Retry-After, lost connections, deadlines; many images; a server that restarts."""

import asyncio
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpcore
import httpx
import numpy as np
import pytest

from rcnn_client import AsyncClient, Client, Refused, Result, Unreachable, in_order
from rcnn_client.clients import LIMITS, Outcome
from rcnn_client.errors import retry_after
from rcnn_client.exchange import pause
from tests.client.test_client import ANSWER, busy, client_of
from tests.support.fakes import FINDS, picture
from tests.support.process import Program

IMAGES, IN_FLIGHT, RESTART_AT = 200, 16, 60


def lost(*errors: Exception, retries: int = 3, deadline: float = 60) -> tuple[Client, list[httpx.Request]]:
    """A client whose connections end with these errors before there is an answer, and what it sent."""
    left, sent = list(errors), []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        if left:
            raise left.pop(0)
        return httpx.Response(200, json=ANSWER)

    transport = httpx.MockTransport(answer)
    return Client("http://test", retries=retries, deadline=deadline, transport=transport), sent


class SlowToConnect(httpcore.SyncBackend):
    """Connections that are made when the test says so; the last one."""

    def __init__(self) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()
        self.made: socket.socket | None = None

    def connect_tcp(self, *arguments: Any, **named: Any) -> httpcore.NetworkStream:
        self.asked.set()
        assert self.go_on.wait(20)
        stream = super().connect_tcp(*arguments, **named)
        self.made = stream.get_extra_info("socket")
        return stream


# -- one image -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.RemoteProtocolError, httpx.ConnectTimeout])
def test_a_lost_connection_is_tried_again(error: type[httpx.TransportError]) -> None:
    client, sent = lost(error("gone"))
    assert client.detect(b"picture").names == ("disc",)
    assert [request.read() for request in sent] == [b"picture"] * 2


@pytest.mark.parametrize("error", [httpx.ReadTimeout, httpx.WriteTimeout, httpx.DecodingError])
def test_a_service_that_is_too_slow_is_not_asked_twice(error: type[httpx.RequestError]) -> None:
    client, sent = lost(error("slow"))
    with pytest.raises(Unreachable, match="slow"):
        client.detect(b"picture")
    assert len(sent) == 1


def test_a_retry_after_beyond_the_deadline_is_not_waited_for() -> None:
    client, sent = client_of(busy("3600"))
    with pytest.raises(Refused) as refused:
        client.detect(b"picture")
    assert (refused.value.retry_after, len(sent)) == (3600, 1)


def test_a_try_gets_no_more_time_than_is_left() -> None:
    client, sent = lost(deadline=5)
    client.detect(b"picture")
    assert 4 < sent[0].extensions["timeout"]["read"] <= 5


def test_retry_after_may_be_a_date() -> None:
    there = datetime.now(UTC) + timedelta(seconds=90)
    soon = retry_after(busy(format_datetime(there, usegmt=True)))
    assert soon is not None
    assert 85 < soon <= 90
    assert retry_after(busy(format_datetime(there - timedelta(hours=1), usegmt=True))) == 0
    assert [retry_after(busy(text)) for text in ("soon", "-1", None)] == [None] * 3


def test_pauses_are_never_shorter_than_asked_and_never_all_the_same() -> None:
    pauses = {pause(busy("4"), number) for number in range(50)}
    assert len(pauses) > 10
    assert min(pauses) >= 4
    assert max(pauses) <= 5
    growing = [pause(httpx.ConnectError("no"), number) or 0 for number in range(20)]
    assert 0.25 <= growing[0] <= 0.3125
    assert 8 <= growing[-1] <= 10


@pytest.mark.parametrize("patience", [{"retries": -1}, {"timeout": 0}, {"deadline": -2}])
def test_patience_has_bounds(patience: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be above 0 seconds, retries 0 or more"):
        Client("http://test", **patience)


def test_closing_ends_a_pause() -> None:
    asked = threading.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.set()
        return busy("60")

    client = Client("http://test", transport=httpx.MockTransport(answer))
    ended: list[object] = []

    def detect() -> None:
        with pytest.raises(Unreachable, match="closed") as error:
            client.detect(b"picture")
        ended.append(error.value)

    thread = threading.Thread(target=detect)
    thread.start()
    assert asked.wait(20)
    client.close()
    thread.join(20)
    assert ended


def test_closing_closes_a_connection_that_is_being_made(program: Program) -> None:
    transport, network = httpx.HTTPTransport(), SlowToConnect()
    transport._pool._network_backend = network  # httpx has no argument for httpcore's
    client = Client(f"http://127.0.0.1:{program.port}", transport=transport)
    with ThreadPoolExecutor(1) as pool:
        labels = pool.submit(client.labels)
        assert network.asked.wait(20)
        client.close()
        network.go_on.set()
        assert labels.result(20)
    assert network.made is not None
    assert network.made.fileno() == -1


def test_labels(program: Program) -> None:
    with Client(f"http://127.0.0.1:{program.port}") as client:
        assert client.labels() == {1: "Square", 2: "disc", 4: "kite"}


async def test_labels_async(program: Program) -> None:
    async with AsyncClient(f"http://127.0.0.1:{program.port}") as client:
        assert await client.labels() == {1: "Square", 2: "disc", 4: "kite"}


# -- many images ---------------------------------------------------------------------------------------------


def test_of_many_one_fails_in_its_place(program: Program, tmp_path: Path) -> None:
    images = [picture(70), tmp_path / "none.png", b"no image", picture(71)]
    with Client(f"http://127.0.0.1:{program.port}") as client:
        found = list(client.detect_many(images, in_flight=2, score_threshold=0.9))
    kinds = [type(one).__name__ for one in found]
    assert kinds == ["Result", "FileNotFoundError", "Refused", "Result"]
    assert [(one.width, len(one)) for one in found if isinstance(one, Result)] == [(70, 1), (71, 1)]


def test_no_more_are_in_flight_than_asked_and_images_are_read_as_needed() -> None:
    busy_now, most, taken = 0, 0, 0
    lock, full = threading.Lock(), threading.Barrier(3)

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal busy_now, most
        with lock:
            busy_now += 1
            most = max(most, busy_now)
        full.wait(20)  # three are in here together, or the test fails
        with lock:
            busy_now -= 1
        return httpx.Response(200, json=ANSWER)

    def images() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(60):
            taken += 1
            yield b"picture"

    client = Client("http://test", transport=httpx.MockTransport(answer))
    results = client.detect_many(images(), in_flight=3)
    next(results)
    assert taken <= 12
    assert len(list(results)) == 59
    assert most == 3


def test_leaving_early_ends_what_waits() -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json=ANSWER) if len(sent) == 1 else busy("60")

    client = Client("http://test", transport=httpx.MockTransport(answer))
    started = time.monotonic()
    results = client.detect_many([b"picture"] * 50, in_flight=1)
    next(results)
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert time.monotonic() - started < 20
    assert len(sent) <= 2


def test_in_order_needs_somebody_to_work() -> None:
    with pytest.raises(ValueError, match="in_flight is 0"):
        list(in_order(str, [1], 0))
    with pytest.raises(ValueError, match="in_flight is 0"):
        Client("http://test").detect_many([], in_flight=0)


def test_connections_are_used_again(program: Program) -> None:
    opened: list[object] = []

    class Watching(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            def trace(name: str, info: object) -> None:
                if name == "connection.connect_tcp.complete":
                    opened.append(info)

            request.extensions["trace"] = trace
            return super().handle_request(request)

    url = f"http://127.0.0.1:{program.port}"
    with Client(url, transport=Watching(limits=LIMITS)) as client:
        assert len(list(client.detect_many([picture()] * 40, in_flight=4))) == 40
    assert 1 <= len(opened) <= 4


def test_a_bar_is_for_terminals_alone(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    with Client(f"http://127.0.0.1:{program.port}") as client:
        assert len(list(client.detect_many([picture()] * 2, progress=True))) == 2
    assert capsys.readouterr() == ("", "")


# -- a server that restarts ----------------------------------------------------------------------------------


class Seen:
    """What came over the wire, by kind; whoever waits for a kind is woken."""

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


class Counting(httpx.HTTPTransport):
    """The real transport; `seen` counts statuses and errors."""

    seen: Seen

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            response = super().handle_request(request)
        except httpx.TransportError as error:
            self.seen.add(_kind(error))
            raise
        self.seen.add(str(response.status_code))
        return response


class CountingAsync(httpx.AsyncHTTPTransport):
    """The same for asyncio."""

    seen: Seen

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await super().handle_async_request(request)
        except httpx.TransportError as error:
            self.seen.add(_kind(error))
            raise
        self.seen.add(str(response.status_code))
        return response


def _kind(error: httpx.TransportError) -> str:
    return (
        "lost" if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError) else type(error).__name__
    )


def restart(program: Program, start: Callable[..., Program], seen: Seen) -> Program:
    """Stop the server, start another at its port once nobody was found there, ready once it said 503."""
    port = program.port
    program.terminate()
    assert program.ended() == 0
    seen.wait("lost")
    another = start("--loading", "--seconds", "0.01", port=str(port), max_queue="1")
    another.logged("listening")
    seen.wait("503")
    another.process.send_signal(signal.SIGUSR1)
    return another


def check_all(found: list[Outcome], seen: Seen) -> None:
    """Each image's own answer, in order, once; and each kind of obstacle was met."""
    assert [type(one).__name__ for one in found] == ["Result"] * IMAGES
    results = [one for one in found if isinstance(one, Result)]
    assert [one.width for one in results] == [64 + number for number in range(IMAGES)]
    assert len({one.request_id for one in results}) == IMAGES
    shares = np.array([box for _, _, box in FINDS[:2]])
    for one in results:
        np.testing.assert_allclose(one.boxes, shares * ([one.width, 48] * 2), rtol=1e-5)
    assert min(seen.counts[kind] for kind in ("429", "503", "lost")) >= 1, seen.counts
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
        check_all(found, seen)
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
        outcomes: AsyncIterator[Outcome] = client.detect_many(pictures(), in_flight=IN_FLIGHT)
        async for outcome in outcomes:
            found.append(outcome)
            if len(found) == RESTART_AT:
                restarted = asyncio.create_task(asyncio.to_thread(restart, program, start, seen))
    await restarted
    check_all(found, seen)

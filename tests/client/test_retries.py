"""Retries: Retry-After, lost connections, deadlines; many images; a server that restarts."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest

from rcnn_client import AsyncClient, Client, Detections, Refused, Unreachable, in_order
from rcnn_client.clients import LIMITS
from rcnn_client.errors import retry_after
from tests.support.fakes import picture
from tests.support.process import Program
from tests.support.servers.responses import Scripted, busy, detected


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
    client = Scripted(error("gone"), detected())
    assert client.detect(b"picture").names == ("disc",)
    assert [request.read() for request in client.sent] == [b"picture"] * 2
    assert 0.25 <= client.pauses.seconds[0] <= 0.3125


FAULTS = {
    "not trusted": (httpx.ConnectError, ssl.SSLCertVerificationError, "SSL_CERT_FILE"),
    "not trusted later": (httpx.ReadError, ssl.SSLCertVerificationError, "SSL_CERT_FILE"),
    "no TLS": (httpx.ConnectError, ssl.SSLError, "use http://"),
    "the end": (httpx.ConnectError, ssl.SSLEOFError, ""),
    "a damaged record": (httpx.ReadError, ssl.SSLError, ""),
    "a damaged one, sent": (httpx.WriteError, ssl.SSLError, ""),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_tls_are_final_where_the_connection_cannot_be_made(name: str) -> None:
    kind, cause, advice = FAULTS[name]
    error = kind("TLS")
    error.__cause__ = cause("TLS")
    client = Scripted(error, detected())
    if not advice:
        assert client.detect(b"picture").names == ("disc",)
        return
    with pytest.raises(Unreachable, match=advice):
        client.detect(b"picture")
    assert len(client.sent) == 1


@pytest.mark.parametrize("error", [httpx.ReadTimeout, httpx.WriteTimeout, httpx.DecodingError])
def test_a_service_that_is_too_slow_is_not_tried_again(error: type[httpx.RequestError]) -> None:
    client = Scripted(error("slow"))
    with pytest.raises(Unreachable, match="slow"):
        client.detect(b"picture")
    assert len(client.sent) == 1


@pytest.mark.parametrize("status", [400, 413, 422, 500, 504])
def test_other_problems_are_not_tried_again(status: int) -> None:
    client = Scripted(httpx.Response(status, json={"detail": "no"}))
    with pytest.raises(Refused) as refused:
        client.detect(b"picture")
    assert (refused.value.status, refused.value.code, len(client.sent)) == (status, "unknown", 1)


def test_retry_after_is_honoured() -> None:
    client = Scripted(busy("0"), busy("4", 503), detected())
    assert client.detect(b"picture", score_threshold=0.25).names == ("disc",)
    assert [request.url for request in client.sent] == [
        httpx.URL("http://test/detect?score_threshold=0.25")
    ] * 3
    assert client.pauses.seconds[0] == 0
    assert 4 <= client.pauses.seconds[1] <= 5


def test_retries_end_with_the_last_response() -> None:
    client = Scripted(busy("0"), busy("0"), busy("7"), retries=2)
    with pytest.raises(Refused, match=r"64 requests wait \(429 overloaded\)") as refused:
        client.detect(b"picture")
    assert (refused.value.retry_after, len(client.sent)) == (7, 3)
    client = Scripted(httpx.ConnectError("one"), httpx.ConnectError("two"), retries=1)
    with pytest.raises(Unreachable, match="two"):
        client.detect(b"picture")


def test_a_retry_after_beyond_the_deadline_is_not_waited_for() -> None:
    client = Scripted(busy("3600"))
    with pytest.raises(Refused) as refused:
        client.detect(b"picture")
    assert (refused.value.retry_after, client.pauses.seconds) == (3600, [])


def test_a_try_gets_no_more_time_than_is_left() -> None:
    client = Scripted(detected(), deadline=5)
    client.detect(b"picture")
    assert 4 < client.sent[0].extensions["timeout"]["read"] <= 5


def test_retry_after_may_be_a_date() -> None:
    there = datetime.now(UTC) + timedelta(seconds=90)
    soon = retry_after(busy(format_datetime(there, usegmt=True)))
    assert soon is not None
    assert 85 < soon <= 90
    assert retry_after(busy(format_datetime(there - timedelta(hours=1), usegmt=True))) == 0
    assert [retry_after(busy(text)) for text in ("soon", "-1", None)] == [None] * 3


def test_pauses_grow_and_differ() -> None:
    first = {_pauses(httpx.ConnectError("no"))[0] for _ in range(20)}
    assert len(first) > 10
    last = _pauses(*[busy(None)] * 12)[-1]
    assert 8 <= last <= 10


def _pauses(*replies: httpx.Response | Exception) -> list[float]:
    client = Scripted(*replies, detected(), retries=20, deadline=1000)
    client.detect(b"picture")
    return client.pauses.seconds


@pytest.mark.parametrize("policy", [{"retries": -1}, {"timeout": 0}, {"deadline": -2}])
def test_the_policy_has_bounds(policy: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be above 0 seconds, retries 0 or more"):
        Client("http://test", **policy)


def test_closing_ends_a_pause() -> None:
    asked = threading.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.set()
        return busy("60")

    client = Client("http://test", transport=httpx.MockTransport(answer))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.detect, b"picture")
        assert asked.wait(20)
        client.close()
        with pytest.raises(Unreachable, match="closed"):
            waiting.result(20)


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


async def test_labels(program: Program) -> None:
    url = f"http://127.0.0.1:{program.port}"
    with Client(url) as client:
        assert client.labels() == {1: "Square", 2: "disc", 4: "kite"}
        assert client.get("health")["status"] == "ok"
    async with AsyncClient(url) as async_client:
        assert await async_client.labels() == {1: "Square", 2: "disc", 4: "kite"}
        assert (await async_client.get("health"))["status"] == "ok"


# -- many images ---------------------------------------------------------------------------------------------


def test_of_many_one_fails_in_its_place(program: Program, tmp_path: Path) -> None:
    images = [picture(70), tmp_path / "none.png", b"no image", picture(71)]
    with Client(f"http://127.0.0.1:{program.port}") as client:
        found = list(client.detect_many(images, in_flight=2, score_threshold=0.9))
    kinds = [type(one).__name__ for one in found]
    assert kinds == ["Detections", "FileNotFoundError", "Refused", "Detections"]
    assert [(one.width, len(one)) for one in found if isinstance(one, Detections)] == [(70, 1), (71, 1)]


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
        return detected()

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


def test_closing_early_ends_pending_requests() -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return detected() if len(sent) == 1 else busy("60")

    client = Client("http://test", transport=httpx.MockTransport(answer))
    started = time.monotonic()
    results = client.detect_many([b"picture"] * 50, in_flight=1)
    next(results)
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert time.monotonic() - started < 20
    assert len(sent) <= 2


def test_in_flight_is_at_least_1() -> None:
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

"""Connections on real sockets: whatever begins, ends; how many there may be; one response a request."""

import asyncio
import resource
import socket
from contextlib import suppress

import pytest

from app.http_server import body_speed
from app.http_server.connections import SHARES
from app.http_server.http_protocol import DISCARD_BYTES, KEPT_BYTES
from tests.support.fakes import picture
from tests.support.http_server import http_server
from tests.support.served import eventually

HANDSHAKE = (
    b"GET /detect/live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
POST = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
NOWHERE, DETECT = POST % b"/nowhere", POST % b"/detect"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


def status(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


# what begins, ends


@pytest.mark.parametrize(
    ("sent", "state", "seconds"),
    [
        (b"", "head", 30),
        (b"GET / HTTP/1.1\r\nX-Slow: ", "head", 30),
        (b"\r\n" * 10, "head", 30),
        (LIVE, "idle", 75),
        (LIVE + b"\r\n\r\n", "idle", 75),
        (LIVE + b"GET / HTT", "head", 30),
        (NOWHERE + b"Content-Length: 9\r\n\r\n1", "discard", 5),
        (NOWHERE + b"Content-Length: 1000000\r\n\r\n1", "discard", 5),
        (NOWHERE + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12", "discard", 5),
        (NOWHERE + b"Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n", "discard", 5),
        (b"POST /nowhere HTTP/1.0\r\nContent-Length: 9\r\n\r\n1", "discard", 5),
        (b"nonsense", "discard", 5),
    ],
)
async def test_a_connection_without_a_request_in_work_is_closed_after_a_while(
    sent: bytes, state: str, seconds: int
) -> None:
    async with http_server() as server:
        client = await server.connect(sent)
        await server.reaches(state)
        server.pass_time(seconds - 1)
        assert server.count(state) == 1
        server.pass_time(seconds + 1)
        await client.rest()
        assert await server.served.metric("rcnn_connections_closed_total", reason=state) == 1


async def test_bytes_between_requests_do_not_prolong_a_connection() -> None:
    async with http_server() as server:
        client = await server.connect(LIVE)
        await server.reaches("idle")
        [connection] = server.connections.tracked
        since = connection.since
        client.send(b"\r\n")
        client.send(b"\r\n")
        await asyncio.sleep(0)
        assert (connection.state, connection.since) == ("idle", since)


async def test_a_client_that_does_not_read_its_response_is_cut_off() -> None:
    async with http_server() as server:
        with socket.create_connection(server.address) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
            await asyncio.to_thread(deaf.sendall, request * 200)

            def is_stalled() -> bool:
                return any(connection.stalled_since for connection in server.connections.tracked)

            await eventually(is_stalled, "the client's buffers are full")
            server.pass_time(29)
            assert len(server.connections.tracked) == 1
            server.pass_time(31)
            await eventually(lambda: not server.connections.tracked, "the connection is gone")
        assert await server.served.metric("rcnn_connections_closed_total", reason="stalled") == 1


async def test_a_short_body_that_nobody_reads_keeps_the_connection() -> None:
    async with http_server() as server:
        client = await server.connect(NOWHERE + b"Content-Length: 9\r\n\r\n1")
        refused = await client.response()
        assert (status(refused), b"connection: close" in refused.lower()) == (404, False)
        client.send(b"23456789" + LIVE)
        assert status(await client.response()) == 200


@pytest.mark.parametrize("length", [b"Content-Length: %d" % (KEPT_BYTES + 1), b"Transfer-Encoding: chunked"])
async def test_a_long_body_that_nobody_reads_ends_its_connection(length: bytes) -> None:
    """The client may write all of it and then read the response, which no reset has destroyed."""
    async with http_server() as server:
        chunk = b"%x\r\n" % (KEPT_BYTES + 1) if b"chunked" in length else b""
        client = await server.connect(NOWHERE + length + b"\r\n\r\n" + chunk)
        await server.reaches("discard")
        end = b"\r\n0\r\n\r\n" if chunk else b""
        client.send(bytes(KEPT_BYTES + 1) + end + LIVE)
        await client.writer.drain()
        received = await client.rest()
        assert (status(received), received.count(b"HTTP/1.1 "), b"connection: close" in received) == (
            404,
            1,
            True,
        )


async def test_what_is_read_for_nobody_is_bounded() -> None:
    async with http_server() as server:
        client = await server.connect(NOWHERE + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (1 << 40))
        await server.reaches("discard")
        sent = 0
        with suppress(ConnectionError):
            while sent < 2 * DISCARD_BYTES:
                client.send(bytes(1 << 16))
                await client.writer.drain()
                sent += 1 << 16
        assert sent < 2 * DISCARD_BYTES


async def test_a_body_that_is_too_slow_is_refused_where_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_speed, "GRACE_SECONDS", 0.2)
    async with http_server() as server:
        client = await server.connect(DETECT + b"Content-Length: 1000\r\n\r\n123")
        refused = await client.response()
        assert (status(refused), b"deadline_exceeded" in refused) == (504, True)
        await server.reaches("discard")


# handshakes of web sockets

HANDSHAKES = {
    "a header of 9 KB": (HANDSHAKE + b"X: " + b"a" * 9000 + b"\r\n\r\n", 431),
    "a query of 9 KB": (HANDSHAKE.replace(b"live", b"live?a=" + b"a" * 9000) + b"\r\n", 431),
    "200 headers": (HANDSHAKE + b"X: a\r\n" * 200 + b"\r\n", 431),
    "a body": (HANDSHAKE + b"Content-Length: 3\r\n\r\nabc", 400),
    "a body to come": (HANDSHAKE + b"Content-Length: 3\r\n\r\n", 400),
    "a body in chunks": (HANDSHAKE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "no key": (HANDSHAKE.replace(b"-Key", b"-Kex") + b"\r\n", 400),
    "an option that is wrong": (HANDSHAKE.replace(b"live", b"live?nonsense=1") + b"\r\n", 422),
    "another path": (HANDSHAKE.replace(b"live", b"dead") + b"\r\n", 403),
    "complete": (HANDSHAKE + b"\r\n", 101),
}


@pytest.mark.parametrize(("sent", "expected"), HANDSHAKES.values(), ids=HANDSHAKES)
async def test_every_handshake_gets_one_response(sent: bytes, expected: int) -> None:
    async with http_server() as server:
        client = await server.connect(sent)
        assert status(await client.head()) == expected
        if expected == 101:
            await server.reaches("websocket")
        else:
            assert b"HTTP/1.1" not in await client.rest()


@pytest.mark.parametrize("share", range(1, 10))
async def test_every_beginning_of_a_handshake_ends(share: int) -> None:
    whole = HANDSHAKE + b"\r\n"
    async with http_server() as server:
        client = await server.connect(whole[: len(whole) * share // 10])
        await server.reaches("head")
        server.pass_time(31)
        assert await client.rest() == b""


# how many there may be


async def test_at_the_bound_the_newest_connection_takes_the_place_of_an_unused_one() -> None:
    async with http_server(limit=20) as server:
        slow = [await server.connect(b"GET / HT") for _ in range(20)]
        client = await server.connect(LIVE)
        assert status(await client.response()) == 200
        await slow[0].rest()
        assert len(server.connections.tracked) <= 20
        assert await server.served.metric("rcnn_connections_closed_total", reason="limit") >= 1


async def test_at_the_bound_no_request_in_work_is_lost() -> None:
    async with http_server(limit=2) as server:
        working = [await server.connect(DETECT + b"Content-Length: 1000\r\n\r\n1") for _ in range(2)]
        await server.reaches("body", 2)
        client = await server.connect()
        refused = await client.response()
        assert (status(refused), b"overloaded" in refused, b"Retry-After" in refused) == (429, True, True)
        await server.reaches("body", 2)
        image = picture()
        working[0].send((image + bytes(1000))[1:1000])
        assert status(await working[0].response()) == 400


async def test_unfinished_requests_have_a_share_an_address() -> None:
    async with http_server(limit=10 * SHARES, shared=True) as server:
        used = await server.connect(LIVE)
        await used.response()
        for _ in range(10):
            await server.connect(DETECT + b"Content-Length: 1000\r\n\r\n1")
        await server.reaches("body", 10)
        assert status(await (await server.connect()).response()) == 429
        used.send(LIVE)
        assert status(await used.response()) == 429
        assert await server.served.metric("rcnn_rejected_total", code="overloaded") == 2


async def test_requests_without_a_share_are_of_this_machine() -> None:
    async with http_server(limit=10 * SHARES) as server:
        for _ in range(15):
            await server.connect(DETECT + b"Content-Length: 1000\r\n\r\n1")
        assert status(await (await server.connect(LIVE)).response()) == 200


async def test_the_states_of_connections_are_exported() -> None:
    async with http_server() as server:
        await server.connect(b"GET ")
        await server.connect(DETECT + b"Content-Length: 1000\r\n\r\n1")
        await (await server.connect(HANDSHAKE + b"\r\n")).head()
        await server.reaches("body")
        server.pass_time(0)
        for state in ("head", "body", "websocket"):
            assert await server.served.metric("rcnn_connections", state=state) == 1


async def test_bounds_that_are_reached_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with http_server(limit=1) as server:
        for _ in range(3):
            await server.connect()
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            server.pass_time(0)
            server.pass_time(1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    texts = [record.getMessage() for record in caplog.records if "ulimit" in record.getMessage()]
    assert len(texts) == 2
    assert "no file descriptor is left" in texts[0]
    assert "the bound of 1 connections (from `ulimit -n`) was reached 2 times" in texts[1]

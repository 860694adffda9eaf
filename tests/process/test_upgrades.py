"""The header Upgrade on a real server: one response a request, and no body is taken for a request."""

import json
import re
import socket

import pytest

from tests.support.fakes import picture
from tests.support.process import Program

DETECT = b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
HANDSHAKE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
LAST = LIVE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


def statuses(connection: socket.socket) -> list[int]:
    """The statuses of all responses until the server closes."""
    with connection.makefile("rb") as received:
        return [int(line) for line in re.findall(rb"HTTP/1\.1 (\d+) ", received.read())]


UPGRADES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQC\r\n",
    "TLS": b"Upgrade: TLS/1.0\r\nConnection: Upgrade\r\n",
    "unknown": b"Upgrade: foo/2\r\nConnection: keep-alive, upgrade\r\n",
    "several": b"Upgrade: h2c, websocket\r\nConnection: Upgrade\r\n",
    "several headers": b"Upgrade: foo\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nConnection: TE\r\n",
    "a web socket": HANDSHAKE,
}
IMAGE = picture()
BODIES = {
    "a length": (b"Content-Length: %d\r\n\r\n" % len(IMAGE), IMAGE),
    "chunks": (b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(IMAGE), IMAGE)),
}


@pytest.mark.parametrize("pause", [False, True], ids=["at once", "with a pause"])
@pytest.mark.parametrize(("end", "body"), BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
def test_an_upgrade_to_anything_but_a_web_socket_is_ignored(
    program: Program, upgrade: bytes, end: bytes, body: bytes, pause: bool
) -> None:
    """The body is an image, and the request behind it one request."""
    head = DETECT + upgrade + end
    with socket.create_connection(("127.0.0.1", program.port), timeout=20) as connection:
        if pause:
            connection.sendall(head)
            program.client.get("/health/live")  # the head is read before this is
            head = b""
        connection.sendall(head + body + LAST)
        assert statuses(connection) == [200, 200]


def test_what_looks_like_a_request_in_the_body_is_a_body(program: Program) -> None:
    hidden = b"GET /labels HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = DETECT + UPGRADES["h2c"] + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(hidden)
    with socket.create_connection(("127.0.0.1", program.port), timeout=20) as connection:
        connection.sendall(head + hidden)
        assert statuses(connection) == [400]


def test_a_tunnel_is_refused(program: Program) -> None:
    with socket.create_connection(("127.0.0.1", program.port), timeout=20) as connection:
        connection.sendall(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n" + LIVE)
        assert statuses(connection) == [400]


def test_a_malformed_head_is_a_problem_that_is_counted_and_logged_with_its_address(program: Program) -> None:
    with socket.create_connection(("127.0.0.1", program.port), timeout=20) as connection:
        port = connection.getsockname()[1]
        connection.sendall(b"post /detect HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with connection.makefile("rb") as received:
            head, _, body = received.read().partition(b"\r\n\r\n")
    problem = json.loads(body)
    assert head.startswith(b"HTTP/1.1 400 ")
    assert f"x-request-id: {problem['request_id']}".encode() in head
    assert problem["code"] == "malformed_request"
    program.logged(f"{problem['request_id']} .*refused a request from 127.0.0.1:{port}: .*method")
    metrics = program.client.get("/metrics").text
    assert 'rcnn_rejected_total{code="malformed_request"}' in metrics
    assert 'rcnn_requests_total{route="unmatched",status="400"}' in metrics

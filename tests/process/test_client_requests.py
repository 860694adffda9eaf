"""Requests byte by byte as the HTTP clients of other languages write them, on a real server."""

import socket

import pytest

from tests.support.fakes import picture
from tests.support.process import Program

IMAGE = picture(format="JPEG")
LENGTH = b"Content-Length: %d\r\n\r\n"
FORM = "Content-Type: application/x-www-form-urlencoded"


def with_length(body: bytes = IMAGE) -> bytes:
    return LENGTH % len(body) + body


def in_chunks(body: bytes = IMAGE, size: int = 500) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def multipart(boundary: str, disposition: str, *headers: str) -> bytes:
    head = "\r\n".join((f"--{boundary}", f"Content-Disposition: form-data; {disposition}", *headers))
    return head.encode() + b"\r\n\r\n" + IMAGE + f"\r\n--{boundary}--\r\n".encode()


H2C = (
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
)
JAVA = (*H2C, "User-Agent: Java-http-client/17.0.15")
CURL = "------------------------d74496d66958873e"
NET = "----------------8dd9d3f3e9a2b1c"
GO = "3b2f1c7d0e9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a"
CLIENTS: dict[str, tuple[tuple[str, ...], bytes]] = {
    "Java, raw": ((*JAVA, "Content-Type: image/jpeg"), with_length()),
    "Java, no type": (JAVA, with_length()),
    "Java, unknown length": ((*JAVA, "Content-Type: image/jpeg"), in_chunks()),
    "Java, HttpURLConnection": (
        (FORM, "User-Agent: Java/17.0.15", "Accept: text/html, image/gif, */*; q=.2"),
        in_chunks(size=4096),
    ),
    "curl --http2 --data-binary": (
        ("User-Agent: curl/7.88.1", "Accept: */*", *H2C, FORM),
        with_length(),
    ),
    "curl -F": (
        (
            "Accept: */*",
            "Content-Type: multipart/form-data; boundary=------------------------d74496d66958873e",
        ),
        with_length(
            multipart(
                CURL,
                'name="image"; filename="photo.jpg"',
                "Content-Type: image/jpeg",
            )
        ),
    ),
    "wget --post-file": (
        ("User-Agent: Wget/1.21.3", "Accept-Encoding: identity", "Connection: Keep-Alive", FORM),
        with_length(),
    ),
    "Node, fetch with a buffer": (
        ("accept: */*", "accept-language: *", "sec-fetch-mode: cors", "user-agent: node"),
        with_length(),
    ),
    "Node, fetch with a stream": (("connection: keep-alive", "user-agent: undici"), in_chunks()),
    "Node, axios": ((FORM, "User-Agent: axios/1.7.9"), with_length()),
    ".NET, ByteArrayContent": ((), with_length()),
    ".NET, StreamContent": (("Content-Type: application/octet-stream",), in_chunks()),
    ".NET, MultipartFormDataContent": (
        (f'Content-Type: multipart/form-data; boundary="{NET}"',),
        with_length(multipart(NET, "name=image; filename=a.jpg; filename*=utf-8''a.jpg")),
    ),
    "Go, http.Post": (
        ("User-Agent: Go-http-client/1.1", "Content-Type: binary/octet-stream", "Accept-Encoding: gzip"),
        with_length(),
    ),
    "Go, a pipe": (("User-Agent: Go-http-client/1.1", "Accept-Encoding: gzip"), in_chunks()),
    "Go, multipart.Writer": (
        (f"Content-Type: multipart/form-data; boundary={GO}", "User-Agent: Go-http-client/1.1"),
        in_chunks(multipart(GO, 'name="image"; filename="a.jpg"', "Content-Type: application/octet-stream")),
    ),
}


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(("headers", "body"), CLIENTS.values(), ids=CLIENTS)
def test_a_client_gets_its_detections(
    program: Program, method: str, headers: tuple[str, ...], body: bytes
) -> None:
    head = "\r\n".join((f"{method} /detect/?size=64 HTTP/1.1", "Host: localhost", *headers, ""))
    last = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", program.port), timeout=20) as connection:
        connection.sendall(head.encode() + body + last)
        with connection.makefile("rb") as received:
            answers = received.read().split(b"HTTP/1.1 200 OK\r\n")
    assert [b'"boxes"' in answer for answer in answers] == [False, True, False], answers


def test_a_client_that_waits_for_100_gets_its_detections(program: Program) -> None:
    """Curl for more than a megabyte, and Java and .NET where they are asked to."""
    head = (
        b"POST /detect?size=64 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\n"
    )
    with socket.create_connection(("127.0.0.1", program.port), timeout=20) as connection:
        connection.sendall(head + LENGTH % len(IMAGE))
        with connection.makefile("rb") as received:
            assert received.readline().startswith(b"HTTP/1.1 100 ")
            connection.sendall(IMAGE)
            assert b'"boxes"' in received.read()

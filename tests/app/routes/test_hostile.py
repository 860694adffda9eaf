"""Hostile requests to the real program: each gets its documented problem, and the program stays ready."""

import base64
import json
import socket
import struct
from dataclasses import dataclass, field

import httpx
import pytest

from tests.support.fakes import picture
from tests.support.process import Program

PNG, JPEG, BMP = picture(), picture(format="JPEG"), picture(format="BMP")
LIMIT = 20_000  # bytes of a body, as tests/conftest.py starts the program
HUGE = 60_000


@dataclass(frozen=True)
class Case:
    """One request, and the status and code of the problem that it gets."""

    status: int
    code: str
    content: bytes | list[bytes] = PNG
    query: str = ""
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "image/png"})
    method: str = "POST"
    path: str = "/detect"


def raw(content: bytes, status: int = 400, code: str = "invalid_image") -> Case:
    return Case(status, code, content)


def query(text: str, path: str = "/detect") -> Case:
    return Case(422, "invalid_parameter", query=text, path=path)


def document(content: bytes, status: int = 422, code: str = "invalid_parameter") -> Case:
    return Case(status, code, content, headers={"Content-Type": "application/json"})


def typed(media_type: str, content: bytes = PNG, coding: str = "identity") -> Case:
    headers = {"Content-Type": media_type, "Content-Encoding": coding}
    return Case(415, "unsupported_media_type", content, headers=headers)


def part(name: str = 'name="image"; filename="a.png"', content: bytes = PNG) -> bytes:
    return b"--B\r\nContent-Disposition: form-data; " + name.encode() + b"\r\n\r\n" + content + b"\r\n"


def multipart(
    *parts: bytes, end: bytes = b"--B--\r\n", boundary: str = "; boundary=B", path: str = "/detect"
) -> Case:
    headers = {"Content-Type": f"multipart/form-data{boundary}"}
    return Case(422, "invalid_parameter", b"".join(parts) + end, headers=headers, path=path)


def patched(data: bytes, offset: int, layout: str, *values: int) -> bytes:
    new = struct.pack(layout, *values)
    return data[:offset] + new + data[offset + len(new) :]


def encoded(data: bytes) -> bytes:
    return json.dumps({"image": base64.b64encode(data).decode()}).encode()


# tests/models/images has every format; here is one of each kind
IMAGES = {
    "nothing": raw(b""),
    "text": raw(b"this is no image"),
    "png: half": raw(PNG[: len(PNG) // 2]),
    "jpeg: a third": raw(JPEG[: len(JPEG) // 3]),
    "bmp bomb": raw(patched(BMP, 18, "<ii", HUGE, HUGE), 413, "image_too_large"),
}
# tests/app/routes/options/test_options.py has every bound; here are texts that no form sends
OPTIONS = {
    f"option {text[:40]}": query(text)
    for text in (
        *("score_threshold=nan", "score_threshold=", "nms_threshold=1e400", "nms_threshold=0x1"),
        *("score_threshold=-0.1", "score_threshold=1.01", "nms_threshold=2", "max_detections=0"),
        *("max_detections=1001", "max_detections=1.5", "size=63", "size=8193", "timeout_ms=0"),
        *(f"max_detections={'9' * 5000}", "max_detections=1&max_detections=1", "timeout_ms=999999999"),
        *("classes=unicorn", "classes=0", "classes=3", "classes=-1", "classes=background"),
        *("classes=N%2FA", f"classes={'x' * 9000}", "classes=%F0%9F%A6%84", "class_agnostic=maybe"),
        *("normalized=2", "box_format=XYXY", "format=gif", "format=png&format=jpeg"),
        *("score_treshold=0.5", "=1", "%00=1"),
    )
}
MULTIPART = {
    "no boundary": multipart(part(), boundary=""),
    "an empty boundary": multipart(part(), boundary="; boundary="),
    "an endless boundary": multipart(part(), boundary=f"; boundary={'B' * 300}"),
    "no parts": multipart(),
    "nothing at all": multipart(end=b""),
    "no end": multipart(part(), end=b""),
    "cut inside a part": multipart(part()[:-40], end=b""),
    "an unknown part": multipart(part('name="photo"; filename="a.png"')),
    "an option twice": multipart(*[part('name="score_threshold"', b"0.5")] * 2, part()),
    "a wrong option as a part": multipart(part(), part('name="score_threshold"', b"5")),
    "another encoding": multipart(part('name="image"\r\nContent-Transfer-Encoding: uuencode')),
    "no base64": multipart(part('name="image"\r\nContent-Transfer-Encoding: base64')),
    "a part without a name": multipart(part('filename="a.png"')),
    "a part without headers": multipart(b"--B\r\n\r\n" + PNG + b"\r\n"),
    "an endless part header": multipart(part('name="image"; filename="' + "a" * 9000 + '"')),
    "two images": multipart(part(), part()),
    "batch: no parts": multipart(path="/detect/batch"),
    "batch: too many parts": multipart(*[part(content=b"x")] * 33, path="/detect/batch"),
    "batch: an unknown part": multipart(part(), part('name="mask"'), path="/detect/batch"),
    "batch: a format": query("format=png", path="/detect/batch"),
}
DOCUMENTS = {
    "json: nothing": document(b""),
    "json: no json": document(b"image=1"),
    "json: cut off": document(encoded(PNG)[:-9]),
    "json: not utf-8": document(b'{"image": "\xff\xfe"}'),
    "json: utf-16": document(encoded(PNG).decode().encode("utf-16")),
    "json: a list": document(b"[]"),
    "json: deep": document(b"[" * 9000 + b"]" * 9000),
    "json: no image": document(b"{}"),
    "json: a number": document(b'{"image": 5}'),
    "json: null": document(b'{"image": null}'),
    "json: another key": document(b'{"image": "", "url": "http://127.0.0.1/"}'),
    "json: no base64": document(b'{"image": "!!!!"}'),
    "json: beyond ascii": document('{"image": "é"}'.encode()),
    "json: base64 of nothing": document(b'{"image": ""}', 400, "invalid_image"),
    "json: base64 of text": document(encoded(b"no image"), 400, "invalid_image"),
}
MEDIA_TYPES = {
    "text": typed("text/plain", content=b"photo.jpg"),
    "a form": typed("application/x-www-form-urlencoded", content=b"image=photo.jpg"),
    "an endless type": typed("x" * 5000),
    "brotli": typed("image/png", coding="br"),
    "batch: a raw body": Case(415, "unsupported_media_type", path="/detect/batch"),
}
PATHS = {
    "GET /detect": Case(405, "method_not_allowed", b"", method="GET"),
    "no such path": Case(404, "not_found", path="/detect/video"),
    "two slashes too much": Case(404, "not_found", path="/detect//"),
    "an endless path": Case(404, "not_found", path="/" + "a" * 9000),
    "out of /web": Case(404, "not_found", b"", method="GET", path="/web/..%2Fmain.py"),
    "out of /samples": Case(404, "not_found", b"", method="GET", path="/samples/%2e%2e%2fpyproject.toml"),
    "a null byte": Case(404, "not_found", b"", method="GET", path="/web/app.js%00"),
    "a file of the documentation": Case(404, "not_found", b"", method="GET", path="/docs/core.py"),
}
SIZES = {
    "a long body": Case(413, "body_too_large", b"\0" * (LIMIT + 1)),
    "a long body in chunks": Case(413, "body_too_large", [b"\0" * 1000] * (LIMIT // 1000) + [b"\0"]),
    "a long multipart body in chunks": Case(
        413,
        "body_too_large",
        [part(content=b"\0" * 1000)[:-2], *[b"\0" * 1000] * (LIMIT // 1000)],
        headers={"Content-Type": "multipart/form-data; boundary=B"},
    ),
    "a long document": document(encoded(b"\0" * LIMIT), 413, "body_too_large"),
}
TABLES = {
    "images": IMAGES,
    "options": OPTIONS,
    "multipart": MULTIPART,
    "documents": DOCUMENTS,
    "media types": MEDIA_TYPES,
    "paths": PATHS,
    "sizes": SIZES,
}


@pytest.fixture
def client(program: Program) -> httpx.Client:
    return program.client


def check_problem(name: str, response: httpx.Response, case: Case) -> None:
    assert response.headers["content-type"] == "application/problem+json", (name, response.text)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (case.status, case.code), (name, problem)
    assert set(problem) == {"type", "title", "status", "detail", "code", "request_id"}, name
    assert (problem["type"], problem["status"]) == (f"urn:rcnn-serve:problem:{case.code}", case.status)
    assert problem["request_id"] == response.headers["x-request-id"]
    assert 10 < len(problem["detail"]) < 2000


def check_well(client: httpx.Client) -> None:
    assert client.get("/health/ready").status_code == 200
    answer = client.post("/detect", content=PNG, headers={"Content-Type": "image/png"})
    assert (answer.status_code, answer.json()["labels"]) == (200, [1, 2])


@pytest.mark.parametrize("cases", TABLES.values(), ids=TABLES)
def test_a_bad_request_gets_the_documented_problem(client: httpx.Client, cases: dict[str, Case]) -> None:
    for name, case in cases.items():
        content = case.content if isinstance(case.content, bytes) else iter(case.content)
        url = f"{case.path}?{case.query}" if case.query else case.path
        response = client.request(case.method, url, content=content, headers=case.headers)
        check_problem(name, response, case)
    check_well(client)


UNKNOWN_PARAMETERS = ("score_treshold", "score_threshold, nms_threshold, max_detections, classes")
DETAILS = {
    "score_treshold=1": UNKNOWN_PARAMETERS,
    "score_threshold=2": ("score_threshold", "less than or equal to 1", "'2'"),
    "size=1&max_detections=0": ("size", "64", "max_detections", "1000"),
    "score_threshold=0.5&score_threshold=0.6": ("score_threshold", "2 times", "once"),
    "timeout_ms=30001": ("timeout_ms", "30000"),
    "classes=squre": ("classes", "'squre'", "square"),
    "classes=unicorn": ("Square, disc, kite".lower(), "/labels"),
    "format=gif": ("format", "json", "png", "jpeg"),
}


def test_a_problem_says_what_is_allowed(client: httpx.Client) -> None:
    for text, expected in DETAILS.items():
        response = client.post(f"/detect?{text}", content=PNG, headers={"Content-Type": "image/png"})
        assert [word for word in expected if word not in response.json()["detail"]] == [], text


def test_a_wrong_method_names_the_right_one(client: httpx.Client) -> None:
    assert client.get("/detect").headers["allow"] == "POST, PUT"


def test_a_bad_header_is_replaced_by_the_default(client: httpx.Client) -> None:
    for request_id in ("a b", "a" * 129, "a/b", "<script>", "%0d%0a", ""):
        response = client.get("/health/live", headers={"X-Request-ID": request_id})
        assert response.headers["x-request-id"] != request_id
        assert len(response.headers["x-request-id"]) == 32
    for accept in ("", "*/*;q=nonsense", "image/webp", ",,,;;;q=", "x" * 5000):
        headers = {"Content-Type": "image/png", "Accept": accept}
        response = client.post("/detect", content=PNG, headers=headers)
        assert response.headers["content-type"] == "application/json", accept


# below HTTP libraries: bytes on a socket


def exchange(program: Program, *sent: bytes) -> bytes:
    """Send bytes, and read until the server closes or has said all of one answer."""
    with socket.create_connection(("127.0.0.1", program.port), timeout=20) as connection:
        for data in sent:
            connection.sendall(data)
        received = b""
        while data := connection.recv(65536):
            received += data
            head, _, body = received.partition(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if length and len(body) >= int(length[0].split(b":")[1]):
                break
    return received


HEAD = b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
SOCKET_CASES = {
    "a body in endless chunks": (
        [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"400\r\n" + b"\0" * 1024 + b"\r\n"] * 40],
        b"413",
    ),
    "a length beyond the limit, and no body": ([HEAD + b"Content-Length: 20001\r\n\r\n"], b"413"),
    "a length beyond all limits": ([HEAD + b"Content-Length: " + b"9" * 18 + b"\r\n\r\n"], b"413"),
    "asking before sending too much": (
        [HEAD + b"Content-Length: 20001\r\nExpect: 100-continue\r\n\r\n"],
        b"413",
    ),
    "a negative length": ([HEAD + b"Content-Length: -1\r\n\r\n"], b"400"),
    "no number for a length": ([HEAD + b"Content-Length: many\r\n\r\n"], b"400"),
    "two lengths": ([HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n"], b"400"),
    "a length and chunks": ([HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"], b"400"),
    "a broken chunk": ([HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"], b"400"),
    "no HTTP": ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50], b"400"),
    "a header of 100 kB": ([b"GET / HTTP/1.1\r\nX: ", *[b"a" * 10_000] * 10], b"431"),
    "headers without end": ([b"GET / HTTP/1.1\r\n", *[b"X: a\r\n" * 2000] * 10], b"431"),
    "a path of 100 kB": ([b"GET /", *[b"a" * 10_000] * 10], b"431"),
}


@pytest.mark.parametrize(("sent", "status"), SOCKET_CASES.values(), ids=SOCKET_CASES)
def test_a_bad_request_on_the_socket_is_refused(program: Program, sent: list[bytes], status: bytes) -> None:
    try:
        received = exchange(program, *sent)
    except (BrokenPipeError, ConnectionResetError):
        received = b""  # the server had closed while we still sent: refused as well
    assert not received or received.startswith(b"HTTP/1.1 " + status), received[:200]
    code = {b"400": b"malformed_request", b"413": b"body_too_large", b"431": b"head_too_large"}[status]
    assert not received or (b"application/problem+json" in received and b'"code": "%s"' % code in received)


def test_clients_that_hang_up_early_harm_nobody(program: Program, client: httpx.Client) -> None:
    declared = HEAD + b"Content-Length: 900\r\n\r\n"
    for sent in (b"", b"POST", HEAD, declared, declared + PNG[:500]):
        with socket.create_connection(("127.0.0.1", program.port), timeout=20) as connection:
            connection.sendall(sent)
    check_well(client)


def test_none_of_them_was_an_internal_error(program: Program, client: httpx.Client) -> None:
    """Last in the file: nothing above was answered by the last resort or left a trace in the log."""
    assert 'code="internal"' not in client.get("/metrics").text
    assert "Traceback" not in program.log

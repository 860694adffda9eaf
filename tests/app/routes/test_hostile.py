"""What strangers send: each gets its documented problem from the real program, which stays ready and well."""

import base64
import io
import json
import socket
import struct
import zlib
from dataclasses import dataclass, field

import httpx
import pytest
from PIL import Image as pillow

from tests.support.fakes import picture
from tests.support.process import Program

PNG, JPEG, GIF = picture(), picture(format="JPEG"), picture(format="GIF")
BMP, TIFF, WEBP = picture(format="BMP"), picture(format="TIFF"), picture(format="WEBP")
AVIF = picture(format="AVIF")
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


def typed(media_type: str, status: int = 415, code: str = "unsupported_media_type") -> Case:
    return Case(status, code, headers={"Content-Type": media_type} if media_type else {})


def part(name: str = 'name="image"; filename="a.png"', content: bytes = PNG) -> bytes:
    return b"--B\r\nContent-Disposition: form-data; " + name.encode() + b"\r\n\r\n" + content + b"\r\n"


def multipart(
    *parts: bytes, end: bytes = b"--B--\r\n", boundary: str = "; boundary=B", path: str = "/detect"
) -> Case:
    headers = {"Content-Type": f"multipart/form-data{boundary}"}
    return Case(422, "invalid_parameter", b"".join(parts) + end, headers=headers, path=path)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_bomb() -> bytes:
    header = struct.pack(">IIBBBBB", HUGE, HUGE, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100_000)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return PNG[:8] + b"".join(png_chunk(kind, content) for kind, content in chunks)


def patched(data: bytes, offset: int, layout: str, *values: int) -> bytes:
    new = struct.pack(layout, *values)
    return data[:offset] + new + data[offset + len(new) :]


def jpeg_bomb() -> bytes:
    return patched(JPEG, JPEG.index(b"\xff\xc0") + 5, ">HH", HUGE, HUGE)


def gif_bomb() -> bytes:
    frame = GIF.index(b"\x2c\0\0\0\0")
    return patched(patched(GIF, 6, "<HH", HUGE, HUGE), frame + 5, "<HH", HUGE, HUGE)


def tiff_bomb() -> bytes:
    """Width and height are the entries of tag 256 and 257 in the first directory."""
    directory = struct.unpack_from("<I", TIFF, 4)[0]
    data = TIFF
    for index in range(struct.unpack_from("<H", TIFF, directory)[0]):
        entry = directory + 2 + 12 * index
        if struct.unpack_from("<H", data, entry)[0] in (256, 257):
            data = patched(data, entry + 2, "<HII", 4, 1, HUGE)
    return data


def webp_bomb() -> bytes:
    """An extended header: canvas sides less one, in 24 bits each."""
    side = struct.pack("<I", 16_383)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + side + side + WEBP[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def avif_lie() -> bytes:
    """The property that holds the sizes (version and flags, then width and height) contradicts the pixels."""
    return patched(AVIF, AVIF.index(b"ispe") + 8, ">II", HUGE, HUGE)


def avif_bomb() -> bytes:
    """An honest one, of more pixels than the program may decode: its format packs a plain colour tightly."""
    file = io.BytesIO()
    pillow.new("RGB", (1200, 1000)).save(file, "AVIF", speed=10)
    return file.getvalue()


def encoded(data: bytes) -> bytes:
    return json.dumps({"image": base64.b64encode(data).decode()}).encode()


IMAGES = {
    "nothing": raw(b""),
    "one byte": raw(b"\xff"),
    "text": raw(b"this is no image"),
    "a page": raw(b"<!doctype html><html><body>no</body></html>"),
    "an svg": raw(b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'),
    "a pdf": raw(b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n"),
    "an eps": raw(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    "a zip": raw(b"PK\x03\x04" + b"\0" * 60),
    "zeros": raw(b"\0" * 5000),
    "png: its first bytes only": raw(PNG[:8]),
    "png: half a header": raw(PNG[:20]),
    "png: half": raw(PNG[: len(PNG) // 2]),
    "jpeg: its first bytes only": raw(JPEG[:4]),
    "jpeg: a third": raw(JPEG[: len(JPEG) // 3]),
    "jpeg: all but the end": raw(JPEG[: len(JPEG) * 3 // 4]),
    "gif: half": raw(GIF[: len(GIF) // 2]),
    "bmp: half": raw(BMP[: len(BMP) // 2]),
    "tiff: half": raw(TIFF[: len(TIFF) // 2]),
    "webp: half": raw(WEBP[: len(WEBP) // 2]),
    "avif: half": raw(AVIF[: len(AVIF) // 2]),
    "png: no pixels at all": raw(patched(PNG, 16, ">II", 0, 0)),
    "png bomb": raw(png_bomb(), 413, "image_too_large"),
    "jpeg bomb": raw(jpeg_bomb(), 413, "image_too_large"),
    "gif bomb": raw(gif_bomb(), 413, "image_too_large"),
    "bmp bomb": raw(patched(BMP, 18, "<ii", HUGE, HUGE), 413, "image_too_large"),
    "tiff bomb": raw(tiff_bomb(), 413, "image_too_large"),
    "webp bomb": raw(webp_bomb(), 413, "image_too_large"),
    "avif: a lie about its size": raw(avif_lie()),
    "avif bomb": raw(avif_bomb(), 413, "image_too_large"),
}
OPTIONS = {
    f"option {text}": query(text)
    for text in (
        *("score_threshold=-0.1", "score_threshold=1.01", "score_threshold=nan", "score_threshold=inf"),
        *("score_threshold=half", "score_threshold=", "score_threshold=0.5&score_threshold=0.6"),
        *("nms_threshold=-1", "nms_threshold=2", "nms_threshold=1e400", "nms_threshold=0x1"),
        *("max_detections=0", "max_detections=-1", "max_detections=1001", "max_detections=1.5"),
        *(f"max_detections={'9' * 5000}", "max_detections=1&max_detections=1", "max_detections=ten"),
        *("size=0", "size=-800", "size=63", "size=1334", "size=big"),
        *("timeout_ms=0", "timeout_ms=-5", "timeout_ms=999999999", "timeout_ms=soon"),
        *("classes=unicorn", "classes=Square,unicorn", "classes=0", "classes=3", "classes=99", "classes=-1"),
        *("classes=background", "classes=N%2FA", f"classes={'x' * 9000}", "classes=%F0%9F%A6%84"),
        *("class_agnostic=maybe", "normalized=2", "box_format=yxyx", "box_format=XYXY", "format=gif"),
        *("threshold=0.5", "score_treshold=0.5", "=1", "%00=1", "format=png&format=jpeg"),
    )
}
MULTIPART = {
    "no boundary": multipart(part(), boundary=""),
    "an empty boundary": multipart(part(), boundary="; boundary="),
    "another boundary": multipart(part(), boundary="; boundary=C"),
    "an endless boundary": multipart(part(), boundary=f"; boundary={'B' * 300}"),
    "no parts": multipart(),
    "nothing at all": multipart(end=b""),
    "no end": multipart(part(), end=b""),
    "cut inside a part": multipart(part()[:-40], end=b""),
    "cut inside a header": multipart(part()[:30], end=b""),
    "an unknown part": multipart(part('name="photo"; filename="a.png"')),
    "an option as a part": multipart(part(), part('name="score_threshold"', b"0.5")),
    "a part without a name": multipart(part('filename="a.png"')),
    "a part without headers": multipart(b"--B\r\n\r\n" + PNG + b"\r\n"),
    "an endless part header": multipart(part('name="image"; filename="' + "a" * 9000 + '"')),
    "two images": multipart(part(), part()),
    "an image and a file": multipart(part(), part('name="file"; filename="b.png"')),
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
    "json: deep inside": document(b'{"image": ' + b"[" * 9000 + b"]" * 9000 + b"}"),
    "json: no image": document(b"{}"),
    "json: a number": document(b'{"image": 5}'),
    "json: null": document(b'{"image": null}'),
    "json: another key": document(b'{"image": "", "url": "http://127.0.0.1/"}'),
    "json: no base64": document(b'{"image": "!!!!"}'),
    "json: half a byte of base64": document(b'{"image": "iVBOR"}'),
    "json: beyond ascii": document('{"image": "é"}'.encode()),
    "json: a url": document(b'{"image": "https://example.org/a.png"}'),
    "json: base64 of nothing": document(b'{"image": ""}', 400, "invalid_image"),
    "json: base64 of text": document(encoded(b"no image"), 400, "invalid_image"),
}
MEDIA_TYPES = {
    "no type": typed(""),
    "text": typed("text/plain"),
    "a form": typed("application/x-www-form-urlencoded"),
    "multipart, but no form": typed("multipart/mixed; boundary=B"),
    "half a type": typed("image"),
    "no type at all": typed("///;;;"),
    "an endless type": typed("x" * 5000),
    "compressed": Case(
        415, "unsupported_media_type", headers={"Content-Type": "image/png", "Content-Encoding": "gzip"}
    ),
    "batch: a raw body": Case(415, "unsupported_media_type", path="/detect/batch"),
}
PATHS = {
    "GET /detect": Case(405, "method_not_allowed", b"", method="GET"),
    "PUT /detect": Case(405, "method_not_allowed", method="PUT"),
    "POST /health": Case(405, "method_not_allowed", path="/health"),
    "no such path": Case(404, "not_found", path="/detect/video"),
    "a slash too much": Case(404, "not_found", path="/detect/"),
    "an endless path": Case(404, "not_found", path="/" + "a" * 9000),
    "out of /web": Case(404, "not_found", b"", method="GET", path="/web/..%2Fmain.py"),
    "out of /web, twice encoded": Case(
        404, "not_found", b"", method="GET", path="/web/%252e%252e%252fmain.py"
    ),
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
CASES = {**IMAGES, **OPTIONS, **MULTIPART, **DOCUMENTS, **MEDIA_TYPES, **PATHS, **SIZES}


@pytest.fixture
def client(program: Program) -> httpx.Client:
    return program.client


def check_problem(response: httpx.Response, status: int, code: str) -> None:
    assert response.headers["content-type"] == "application/problem+json", response.text
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert set(problem) == {"type", "title", "status", "detail", "code", "request_id"}
    assert (problem["type"], problem["status"]) == (f"urn:rcnn-serve:problem:{code}", status)
    assert problem["request_id"] == response.headers["x-request-id"]
    assert 10 < len(problem["detail"]) < 2000


def check_well(client: httpx.Client) -> None:
    assert client.get("/health/ready").status_code == 200
    answer = client.post("/detect", content=PNG, headers={"Content-Type": "image/png"})
    assert (answer.status_code, answer.json()["labels"]) == (200, [1, 2])


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_stranger_gets_the_documented_problem(client: httpx.Client, case: Case) -> None:
    content = case.content if isinstance(case.content, bytes) else iter(case.content)
    url = f"{case.path}?{case.query}" if case.query else case.path
    check_problem(
        client.request(case.method, url, content=content, headers=case.headers), case.status, case.code
    )
    check_well(client)


def test_the_table_is_long_enough() -> None:
    assert len(CASES) >= 40


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


@pytest.mark.parametrize(("text", "expected"), DETAILS.items(), ids=DETAILS)
def test_a_problem_says_what_is_allowed(client: httpx.Client, text: str, expected: tuple[str, ...]) -> None:
    response = client.post(f"/detect?{text}", content=PNG, headers={"Content-Type": "image/png"})
    assert [word for word in expected if word not in response.json()["detail"]] == []


def test_a_wrong_method_names_the_right_one(client: httpx.Client) -> None:
    assert client.get("/detect").headers["allow"] == "POST"


@pytest.mark.parametrize("sent", ["a b", "a" * 129, "a/b", "<script>", "%0d%0a", ""])
def test_a_bad_request_id_is_replaced(client: httpx.Client, sent: str) -> None:
    response = client.get("/health/live", headers={"X-Request-ID": sent})
    assert response.headers["x-request-id"] != sent
    assert len(response.headers["x-request-id"]) == 32


@pytest.mark.parametrize("accept", ["", "*/*;q=nonsense", "image/webp", ",,,;;;q=", "x" * 5000])
def test_a_strange_accept_header_gets_json(client: httpx.Client, accept: str) -> None:
    headers = {"Content-Type": "image/png", "Accept": accept}
    assert client.post("/detect", content=PNG, headers=headers).headers["content-type"] == "application/json"


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


HEAD = b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
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
    "a header of 100 kB": ([b"GET / HTTP/1.1\r\nX: ", *[b"a" * 10_000] * 10], b"400"),
    "headers without end": ([b"GET / HTTP/1.1\r\n", *[b"X: a\r\n" * 2000] * 10], b"400"),
    "a path of 100 kB": ([b"GET /", *[b"a" * 10_000] * 10], b"400"),
}


@pytest.mark.parametrize(("sent", "status"), SOCKET_CASES.values(), ids=SOCKET_CASES)
def test_a_stranger_on_the_socket_is_refused(
    program: Program, client: httpx.Client, sent: list[bytes], status: bytes
) -> None:
    try:
        received = exchange(program, *sent)
    except (BrokenPipeError, ConnectionResetError):
        received = b""  # the server had closed while we still sent: refused as well
    assert not received or received.startswith(b"HTTP/1.1 " + status), received[:200]
    if status == b"413":
        assert b"application/problem+json" in received
        assert b'"code": "body_too_large"' in received
    check_well(client)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST",
        HEAD,
        HEAD + b"Content-Length: 900\r\n\r\n",
        HEAD + b"Content-Length: 900\r\n\r\n" + PNG[:500],
    ],
)
def test_a_caller_who_hangs_up_early_harms_nobody(
    program: Program, client: httpx.Client, sent: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", program.port), timeout=20) as connection:
        connection.sendall(sent)
    check_well(client)


def test_no_stranger_was_the_service_s_own_fault(program: Program, client: httpx.Client) -> None:
    """Last: nothing above may have been answered by the last resort, or left a trace in the log."""
    assert 'code="internal"' not in client.get("/metrics").text
    assert "Traceback" not in program.log

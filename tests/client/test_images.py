"""What the client takes as an image: the real app finds in each the same as in the file."""

import io
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from rcnn_client import AsyncClient, Client, Picture, Unreachable
from rcnn_client.images import content
from tests.support.fakes import picture
from tests.support.process import closed_port
from tests.support.served import Served
from tests.support.servers.http_server import http_server
from tests.support.servers.responses import detected

RED = np.full((48, 64, 3), (200, 10, 20), np.uint8)


def pixels(sent: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(sent)) as image:
        return np.asarray(image.convert("RGB"))


async def test_every_kind_of_image_gets_the_same_detections(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(picture())
    with Image.open(file) as image:
        image.load()
    kinds: list[Picture] = [picture(), bytearray(picture()), file, str(file), io.BytesIO(picture()), image]
    kinds.append(np.asarray(image))
    async with AsyncClient("http://test", transport=httpx.ASGITransport(served.app)) as client:
        answers = [await client.detect(kind) for kind in kinds]
        with file.open("rb") as opened:
            answers.append(await client.detect(opened))
        for answer in answers:
            assert answer.names == ("Square", "disc")
            np.testing.assert_array_equal(answer.boxes, answers[0].boxes)
        assert answers[0].draw(image).size == answers[0].draw(file).size


def test_an_image_of_a_url_is_downloaded_without_the_key() -> None:
    seen: list[str | None] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.headers.get("Authorization"))
        request.send_response(404 if request.path == "/none.png" else 200)
        request.send_header("Content-Length", str(len(picture())))
        request.end_headers()
        request.wfile.write(picture())

    sent: list[bytes] = []
    service = httpx.MockTransport(lambda request: sent.append(request.read()) or detected())
    with http_server(answer) as port, Client("http://test", "secret", transport=service) as client:
        client.detect(f"http://127.0.0.1:{port}/picture.png")
        with pytest.raises(Unreachable, match="HTTP 404"):
            client.detect(f"http://127.0.0.1:{port}/none.png")
    assert (sent, seen) == ([picture()], [None, None])
    with pytest.raises(Unreachable, match=r"no image from http://127\.0\.0\.1"):
        content(f"http://127.0.0.1:{closed_port()}/picture.png")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "HSV", "YCbCr", "I;16"])
def test_a_pillow_image_of_any_mode_keeps_its_pixels(mode: str) -> None:
    image = Image.new("I;16", (64, 48), 300) if mode == "I;16" else Image.fromarray(RED).convert(mode)
    np.testing.assert_array_equal(pixels(content(image)), np.asarray(image.convert("RGB")))


def test_a_pillow_image_is_sent_as_it_is_and_not_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    image = Image.fromarray(RED)
    image.info["exif"] = exif.tobytes()
    with Image.open(io.BytesIO(content(image))) as sent:
        assert (sent.size, dict(sent.getexif())) == ((64, 48), {})


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 1), (48, 64, 4)])
def test_grey_and_transparent_pixels_are_images(shape: tuple[int, ...]) -> None:
    array = np.full(shape, 255, np.uint8)
    assert pixels(content(array)).shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (RED / 255, r"float64 \(48, 64, 3\).*scale floats"),
        (RED.transpose(2, 0, 1), r"uint8 \(3, 48, 64\).*move a first axis"),
        (RED[:0], "no pixel"),
        (Image.new("F", (4, 4)), "mode F has no fixed range"),
        (7, "int is no image; give bytes, a path"),
        (io.StringIO("text"), "open it with mode 'rb'"),
    ],
    ids=["floats", "channels first", "empty", "a mode of floats", "a number", "a text file"],
)
def test_what_is_no_image_is_refused_before_a_request(image: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        content(image)


def test_address_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[httpx.Request] = []
    service = httpx.MockTransport(lambda request: sent.append(request) or detected())
    monkeypatch.delenv("RCNN_URL", raising=False)
    monkeypatch.delenv("RCNN_API_KEY", raising=False)
    Client(transport=service).detect(b"picture")
    monkeypatch.setenv("RCNN_URL", "http://service/detector")
    monkeypatch.setenv("RCNN_API_KEY", "secret")
    Client(transport=service).detect(b"picture")
    Client("http://other", "mine", transport=service).detect(b"picture")
    assert [(str(request.url), request.headers.get("Authorization")) for request in sent] == [
        ("http://127.0.0.1:8000/detect", None),
        ("http://service/detector/detect", "Bearer secret"),
        ("http://other/detect", "Bearer mine"),
    ]

"""Bodies of /detect, /detect/batch and /detect/stream: any type, data URLs, options beside the image."""

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.transport.url_images import Fetcher
from tests.support.asgi_request import AsgiRequest
from tests.support.fakes import picture
from tests.support.forms import FORM_TYPE, part, post_form
from tests.support.protocols import in_pieces
from tests.support.served import Serve, Served

PNG, JPEG = picture(), picture(format="JPEG")
TEXT = base64.b64encode(PNG).decode()
JSON = {"Content-Type": "application/json"}
BOXES = [[8.0, 12.0, 32.0, 36.0], [16.0, 12.0, 64.0, 24.0]]

TYPES = (
    *("", "application/x-www-form-urlencoded", "binary/octet-stream", "image/jpg", "image/jpeg", "image"),
    *("text/plain; charset=utf-8", "application/json", "application/binary", "video/mp4", "*/*", "nonsense"),
    *("multipart/form-data", "multipart/mixed; boundary=B", "application/octet-stream"),
)


@pytest.mark.parametrize("media_type", TYPES)
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_an_image_is_known_by_its_first_bytes(served: Served, media_type: str, method: str) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    response = await served.client.request(method, "/detect", content=PNG, headers=headers)
    assert response.json()["boxes"] == BOXES


async def test_a_stream_and_a_named_model_take_any_type_too(served: Served) -> None:
    for path in ("/detect/stream", "/predictions/fake", "/models/fake"):
        response = await served.client.post(path, content=PNG, headers={"Content-Type": "text/plain"})
        assert response.status_code == 200, response.text


# data URLs and base64

URL_SAFE = base64.urlsafe_b64encode(PNG).decode()
ESCAPED = TEXT.replace("+", "%2B").replace("/", "%2f").replace("=", "%3D")
TEXTS = {
    "octet-stream": f"data:application/octet-stream;base64,{TEXT}",
    "no type": f"data:;base64,{TEXT}",
    "nothing but base64": f"data:base64;base64,{TEXT}",
    "a parameter": f"data:image/png;name=a%20b.png;base64,{TEXT}",
    "a charset": f"data:image/png;charset=utf-8;base64,{TEXT}",
    "a quoted parameter": f'data:image/png; name="a b.png" ; base64 , {TEXT}',
    "upper case": f"DATA:IMAGE/PNG;BASE64,{TEXT}",
    "the wrong type": f"data:text/plain;base64,{TEXT}",
    "escaped": f"data:image/png;base64,{ESCAPED}",
    "blanks before it": f"\n data:image/png;base64,{TEXT}",
    "no padding": f"data:image/png;base64,{TEXT.rstrip('=')}",
    "for URLs": f"data:image/png;base64,{URL_SAFE}",
    "for URLs, no padding, no data URL": URL_SAFE.rstrip("="),
    "lines of a mail": "\r\n".join(TEXT[start : start + 76] for start in range(0, len(TEXT), 76)),
}


def test_the_texts_have_what_they_are_about() -> None:
    assert TEXT.endswith("=")
    assert "-" in URL_SAFE + base64.urlsafe_b64encode(JPEG).decode()
    assert "%2B" in ESCAPED


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_base64_is_read_in_every_spelling(served: Served, text: str) -> None:
    bodies = ({"image": text}, {"url": text}) if "data" in text[:8].lower() else ({"image": text},)
    for body in bodies:
        response = await served.client.post("/detect", json=body)
        assert response.json().get("boxes") == BOXES, response.text


@pytest.mark.parametrize(
    "media_type", ["application/vnd.api+json", "text/json", "Application/JSON; charset=utf-8"]
)
async def test_json_has_several_media_types(served: Served, media_type: str) -> None:
    content = json.dumps({"image": TEXT})
    response = await served.client.post("/detect", content=content, headers={"Content-Type": media_type})
    assert response.json()["boxes"] == BOXES


# parts of a form


def quoted(data: bytes) -> bytes:
    return binascii.b2a_qp(data, istext=False)


def lines(data: bytes) -> bytes:
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


ENCODED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "base64": ("base64", lines),
    "upper case": ("BASE64 ", base64.b64encode),
    "quoted-printable": ("quoted-printable", quoted),
    "binary": ("binary", bytes),
    "8bit": ("8Bit", bytes),
}


@pytest.mark.parametrize(("name", "encode"), ENCODED.values(), ids=ENCODED)
async def test_a_part_is_decoded_as_its_header_says(
    served: Served, name: str, encode: Callable[[bytes], bytes]
) -> None:
    header = f"content-transfer-encoding: {name}"
    image = part('name="image"; filename="a.png"', encode(PNG), header)
    assert (await post_form(served, image, part('name="size"', encode(b"64"), header))).json()[
        "boxes"
    ] == BOXES
    assert served.detector.batches[-1][0].canvas.content[0] == 64
    torchserve = await post_form(served, image, path="/predictions/fake")
    assert len(torchserve.json()) == 2


IMAGE = part('name="image"; filename="a.png"', PNG)


async def test_options_are_fields_beside_the_file(served: Served) -> None:
    fields = {
        "score_threshold": b"0.1",
        "class_agnostic": b"true",
        "min_area": b"",
        "max_detections": b" 9 ",
    }
    parts = [part(f'name="{name}"', value) for name, value in fields.items()]
    parts += [part('name="classes"', name) for name in (b"disc", b"kite")]
    for sent in ([*parts, IMAGE], [IMAGE, *parts]):
        answer = (await post_form(served, *sent)).json()
        assert answer["names"] == ["disc", "kite"]
        options = served.detector.batches[-1][0].options
        assert (options.score_threshold, options.class_agnostic, options.max_detections) == (0.1, True, 9)
    results = (await post_form(served, *parts, IMAGE, IMAGE, path="/detect/batch")).json()["results"]
    assert [one["names"] for one in results] == [["disc", "kite"]] * 2
    streamed = await post_form(served, IMAGE, part('name="max_frames"', b"1"), path="/detect/stream")
    assert streamed.status_code == 200
    drawn = await post_form(served, IMAGE, part('name="format"', b"jpeg"))
    assert drawn.headers["content-type"] == "image/jpeg"


# JSON


async def test_options_are_keys_beside_the_image(served: Served) -> None:
    options = {"score_threshold": 0, "classes": [2, "kite"], "size": None, "box_format": "xywh"}
    answer = (await served.client.post("/detect?min_area=1", json={"image": TEXT, **options})).json()
    assert (answer["names"], answer["box_format"]) == (["disc", "kite"], "xywh")
    assert served.detector.batches[-1][0].options.min_area == 1
    coco = await served.client.post("/detect", json={"image": TEXT, "format": "coco", "file_name": "a.png"})
    assert coco.json()["images"][0]["file_name"] == "a.png"
    drawn = await served.client.post("/detect", json={"image": TEXT, "format": "png"})
    assert drawn.content.startswith(b"\x89PNG")
    lines = await served.client.post(
        "/detect/stream", json={"image": TEXT, "max_frames": 1, "classes": "disc"}
    )
    assert json.loads(lines.text.splitlines()[0])["names"] == ["disc"]


@pytest.mark.parametrize("path", ["/detect", "/detect/batch"])
async def test_several_images_are_answered_as_by_batch(served: Served, path: str) -> None:
    html, text = "this is an HTML page", "not valid base64"
    page = base64.b64encode(b"<html><body>Sign in</body></html>").decode()
    images = [TEXT, {"image": f"data:;base64,{TEXT}"}, "?", page, {"url": "http://example.com/a.png"}, {}]
    body = {"images": images, "score_threshold": 0.9}
    response = await served.client.post(path, json=body, headers={"Accept": "image/png"})
    results = response.json()["results"]
    assert [result.get("names") for result in results[:2]] == [["Square"]] * 2
    details = [result["error"]["detail"] for result in results[2:]]
    expected = [text, html, "set RCNN_FETCH_URLS", "either `image` or `url`"]
    assert all(word in detail for word, detail in zip(expected, details, strict=True)), details
    assert [result["error"]["status"] for result in results[2:]] == [422, 400, 422, 422]


# options: once, and by their names

TWICE: dict[str, tuple[str, bytes, str]] = {
    "json": ("size=64", json.dumps({"image": TEXT, "size": 64}).encode(), "application/json"),
    "classes": (
        "classes=disc",
        json.dumps({"image": TEXT, "classes": ["kite"]}).encode(),
        "application/json",
    ),
    "form": ("size=64", part('name="size"', b"64") + IMAGE + b"--B--", FORM_TYPE),
}


@pytest.mark.parametrize(("query", "content", "media_type"), TWICE.values(), ids=TWICE)
@pytest.mark.parametrize("path", ["/detect", "/detect/stream"])
async def test_an_option_is_given_once(
    served: Served, path: str, query: str, content: bytes, media_type: str
) -> None:
    headers = {"Content-Type": media_type}
    response = await served.client.post(f"{path}?{query}", content=content, headers=headers)
    assert response.status_code == 422
    assert "was given in the query and in the body; give it once" in response.json()["detail"]
    assert served.detector.prepared == []


async def test_the_priority_of_the_body_overrides_the_header(served: Served) -> None:
    for body, priority in ((b"", 2), (part('name="priority"', b"0"), 0)):
        content = body + IMAGE + b"--B--"
        headers = {"Content-Type": "multipart/form-data; boundary=B", "X-Priority": "2"}
        assert (await served.client.post("/detect", content=content, headers=headers)).status_code == 200
        labels = {"priority": str(priority), "outcome": "accepted"}
        assert await served.metric("rcnn_priority_requests_total", **labels) == 1


WRONG: dict[str, tuple[Any, str]] = {
    "a wrong name": ({"image": TEXT, "score_treshold": 1}, "did you mean score_threshold? allowed are image"),
    "a wrong key of the image": ({"imgae": TEXT}, "unknown parameter 'imgae', did you mean image"),
    "nothing like it": ({"image": TEXT, "colour": 1}, "unknown parameter 'colour'; allowed are image, url, "),
    "a wrong value": ({"image": TEXT, "size": 5}, "size='5': input should be greater than or equal to 64"),
    "an unknown class": ({"image": TEXT, "classes": ["dics"]}, "disc"),
    "too long a time": ({"image": TEXT, "timeout_ms": 999_999_999}, "at most"),
    "an address as the image": ({"image": "https://example.com/a.png"}, 'send an address as {"url": "…"}'),
    "an address": ({"url": "https://example.com/a.png"}, "does not fetch URLs"),
    "two images": ({"image": TEXT, "url": "http://a/"}, "the JSON has 2 of image, url, images"),
    "no image": ({"image": None, "images": None}, "the JSON has 0 of image, url, images"),
    "no images": ({"images": []}, "images: List should have at least 1 item"),
    "33 images": ({"images": [TEXT] * 33}, "at most 32 items"),
    "drawn images": ({"images": [TEXT], "format": "png"}, "several images are answered in JSON"),
    "a data URL in percent": ({"image": "data:image/png,%89PNG"}, "a data URL without `;base64,`"),
    "a list": ([TEXT], "the JSON is no object"),
}


@pytest.mark.parametrize(("body", "text"), WRONG.values(), ids=WRONG)
async def test_a_wrong_document_is_refused_with_what_to_send(served: Served, body: Any, text: str) -> None:
    response = await served.client.post("/detect", json=body)
    assert response.status_code == 422
    assert text in response.json()["detail"]
    assert served.detector.prepared == []


async def test_a_wrong_field_of_a_form_is_named(served: Served) -> None:
    for name, text in (
        ("score_treshold", "unknown part 'score_treshold', did you mean score_threshold?"),
        ("img", "unknown part 'img', did you mean image"),
        ("photo", "send the image as the file `image` or `file`"),
    ):
        response = await post_form(served, part(f'name="{name}"', b"0.5"), IMAGE)
        assert response.status_code == 422
        assert text in response.json()["detail"]
    long = await post_form(served, part('name="classes"', b"a" * 66_000), IMAGE)
    assert "more than 65536 bytes" in long.json()["detail"]
    many = await post_form(served, *[part('name="classes"', b"disc")] * 65, IMAGE)
    assert many.status_code == 422
    assert served.detector.prepared == []


async def test_several_images_are_no_stream(served: Served) -> None:
    response = await served.client.post("/detect/stream", json={"images": [TEXT]})
    assert response.status_code == 422


async def test_a_body_with_options_is_read_after_there_is_capacity(serve: Serve) -> None:
    async with serve(api_keys="alpha") as served:
        request = AsgiRequest(served.app, "/detect?size=1", JSON | {"X-API-Key": "alpha"})
        await request.answered()  # without a byte of its body
        assert request.status == 422


# addresses


async def test_an_image_is_fetched_if_the_settings_allow_it(serve: Serve) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["93.184.216.34"]

    def answer(request: httpx.Request) -> httpx.Response:
        found = {"/a.png": PNG, "/page": b"<!doctype html>"}
        content = found.get(request.url.path)
        return httpx.Response(404 if content is None else 200, content=in_pieces(content or b""))

    async with serve(fetch_urls=True, max_body_bytes=len(PNG) * 2) as served:
        served.app.state.fetcher = Fetcher(10_000, resolve, httpx.MockTransport(answer))
        at = "https://example.com"
        one = await served.client.post("/detect", json={"url": f"{at}/a.png", "max_detections": 1})
        assert one.json()["names"] == ["Square"]
        urls = [{"url": f"{at}/{name}"} for name in ("a.png", "page", "nothing", "a.png")]
        results = (await served.client.post("/detect", json={"images": urls})).json()["results"]
        codes = [result.get("error", {}).get("code") for result in results]
        assert codes == [None, "invalid_image", "invalid_image", "body_too_large"]
        assert "an HTML page" in results[1]["error"]["detail"]
        stream = await served.client.post("/detect/stream", json={"url": f"{at}/a.png"})
        assert stream.status_code == 200

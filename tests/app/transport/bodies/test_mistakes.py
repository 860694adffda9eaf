"""What is sent in place of an image is named, with what to do."""

import base64
import gzip
import json

import pytest

from tests.support.fakes import picture
from tests.support.forms import part, post_form
from tests.support.protocols import PNG, TEXT
from tests.support.served import Served

JPEG = picture(format="JPEG")
IMAGE = part('name="image"; filename="a.png"', PNG)
BOXES = [[8.0, 12.0, 32.0, 36.0], [16.0, 12.0, 64.0, 24.0]]

NO_IMAGES: dict[str, tuple[bytes, str]] = {
    "nothing": (
        b"",
        "the image is empty (0 bytes); send the content of an image file, with curl: ",
    ),
    "base64": (base64.b64encode(JPEG), "this is base64 text, not an image; send it as JSON"),
    "base64 in lines": (base64.encodebytes(PNG), "or decode it"),
    "base64 for URLs": (base64.urlsafe_b64encode(picture(format="GIF")), "base64 text"),
    "short base64": (base64.b64encode(JPEG[:24]), "base64 text"),
    "a data URL": (f"data:image/png;base64,{TEXT}".encode(), "a data URL"),
    "json": (json.dumps({"image": TEXT}).encode(), "this is JSON, not an image; send it with Content-Type: "),
    "json behind a mark": (b'\xef\xbb\xbf [{"image": ""}]', "JSON"),
    "a page": (b"\n<!DOCTYPE html>\n<html><head><title>Login", "this is an HTML page"),
    "a page without its type": (b"<!-- x -->\n<html lang=en><body>", "an HTML page"),
    "a drawing": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
    "xml": (b"<?xml version='1.0'?><annotation/>", "XML"),
    "a form": (IMAGE, "a multipart body"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "an address": (b"https://example.com/a.png\n", "this is an address"),
    "a field": (b"image=@photo.jpg", "a form without a file"),
    "a name": (
        b"photo.jpg",
        "the text 'photo.jpg', not an image; send the content of an image file; with curl",
    ),
    "text": ("Grüße, ".encode() * 300, "send the content of an image file; allowed are JPEG, PNG"),
    "a document": (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
    "an archive": (b"PK\x03\x04" + bytes(30), "a ZIP archive"),
    "an object": (b"[object Blob]", "send the File, Blob or bytes"),
    "bytes as text": (repr(JPEG).encode(), "the text of Python bytes"),
    "hexadecimal": (JPEG.hex().encode(), "hexadecimal text"),
    "gzip": (gzip.compress(PNG), "send it with Content-Encoding: gzip"),
    "decoded as UTF-8": (JPEG.decode("utf-8", "replace").encode(), "taken for text and encoded again"),
    "a PNG decoded as UTF-8": (PNG.decode("utf-8", "replace").encode(), "taken for text"),
    "encoded as UTF-8": (PNG.decode("latin-1").encode(), "taken for text"),
    "a JPEG encoded as UTF-8": (JPEG.decode("latin-1").encode(), "taken for text"),
    "a video": (b"\0\0\0\x18ftypmp42" + bytes(50), "send it to POST /detect/stream"),
}


@pytest.mark.parametrize(("content", "text"), NO_IMAGES.values(), ids=NO_IMAGES)
async def test_what_is_no_image_is_named_with_what_to_do(served: Served, content: bytes, text: str) -> None:
    for media_type in ("image/jpeg", "application/octet-stream", "text/plain", ""):
        headers = {"Content-Type": media_type} if media_type else {}
        response = await served.client.post("/detect", content=content, headers=headers)
        assert response.status_code in (400, 415), (media_type, response.text)
        assert text in response.json()["detail"], media_type
    file = await served.client.post("/detect", files={"image": ("a.jpg", content)})
    assert file.status_code == 400
    assert text in file.json()["detail"] or content.startswith(b"\0\0\0\x18ftyp")
    assert served.detector.prepared == []


async def test_the_wrong_type_of_json_is_415(served: Served) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}  # curl -d '{"image": …}'
    response = await served.client.post("/detect", content=json.dumps({"image": TEXT}), headers=headers)
    assert response.status_code == 415
    expected = "Content-Type 'application/x-www-form-urlencoded', and this is JSON, not an image; send it"
    assert response.json()["detail"].startswith(expected)


async def test_a_field_in_place_of_a_file_is_named(served: Served) -> None:
    for text in (b"photo.jpg", f"data:image/png;base64,{TEXT}".encode(), b""):
        response = await post_form(served, part('name="image"', text))  # curl -F image=photo.jpg
        assert response.status_code == 400
        assert response.json()["detail"].startswith("the part 'image' is a field without a file: ")
        assert ("-F image=@photo.jpg" in response.json()["detail"]) is (len(text) < 10)
    response = await post_form(served, part('name="image"', b"photo.jpg"), IMAGE, path="/detect/batch")
    failed, found = response.json()["results"]
    assert ("field without a file" in failed["error"]["detail"], found["boxes"]) == (True, BOXES)


async def test_bytes_that_curl_removed_are_named(served: Served) -> None:
    large = picture(200, 200, "JPEG")
    stripped = large.translate(None, b"\r\n\0")  # curl -d @photo.jpg
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    response = await served.client.post("/detect", content=stripped, headers=headers)
    assert response.status_code == 400
    assert "--data-binary @photo.jpg" in response.json()["detail"]

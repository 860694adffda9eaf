"""Data that is no image of a known format: the message says what it is, and what to do."""

import base64
import io
import json
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image as pillow

from models.images import decoder, headers
from models.images.decoder import UnreadableImage, decode
from tests.support.data.image_files import LIMITS, encoded, noise

JPEG, PNG = encoded(noise(), "JPEG"), encoded(noise(), "PNG")
ENCODED = base64.b64encode(JPEG).decode()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.jpg", JPEG)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
    return file.getvalue()


def array_file() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((4, 4, 3), np.uint8))
    return file.getvalue()


def as_text(data: bytes) -> bytes:
    """The bytes as a program has them that read them as text."""
    return data.decode("utf-8", "replace").encode()


MISTAKES: dict[str, tuple[bytes, str]] = {
    "base64": (ENCODED.encode(), "base64 text, not an image; send it as JSON"),
    "base64 in lines": (base64.encodebytes(PNG), "base64 text"),
    "base64 in quotes": (f'"{ENCODED}"'.encode(), "base64 text"),
    "base64 for addresses": (base64.urlsafe_b64encode(JPEG), "base64 text"),
    "base64 in UTF-16": (ENCODED.encode("utf-16"), "base64 text"),
    "data URL": (f"data:image/jpeg;base64,{ENCODED}".encode(), "a data URL"),
    "hexadecimal": (JPEG.hex().encode(), "hexadecimal text"),
    "bytes as Python prints them": (repr(JPEG).encode(), "the text of Python bytes"),
    "read as text": (as_text(JPEG), "the bytes of an image that were taken for text"),
    "png read as text": (as_text(PNG), "the bytes of an image that were taken for text"),
    "written as text": (JPEG.decode("latin-1").encode(), "the bytes of an image that were taken for text"),
    "transferred as text": (PNG.replace(b"\r\n", b"\n"), "a PNG whose line ends were changed"),
    "web page": (b"\n<!DOCTYPE html><html><head>", "an HTML page"),
    "JSON": (
        json.dumps({"image": ENCODED}).encode(),
        "JSON, not an image; send it with Content-Type: application/json",
    ),
    "JSON list": (b"[[1, 2, 3]]", "JSON"),
    "SVG": (b'<?xml version="1.0"?>\n<!-- a -->\n<svg xmlns="a">', "an SVG drawing"),
    "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
    "address": (b"https://example.org/a.jpg\n", "an address"),
    "form": (b"image=" + ENCODED.encode(), "a form without a file"),
    "multipart": (b"--XbX\r\nContent-Disposition: form-data", "a multipart body"),
    "UTF-16": ("hello, this is a text".encode("utf-16"), "UTF-16 text"),
    "text": (b"hello, this is a text", "text, not an image; send the bytes of the image file"),
    "white space": (b" \r\n\t ", "text"),
    "zeros": (bytes(1000), "nothing but bytes of value 0"),
    "erased flash": (b"\xff" * 1000, "nothing but bytes of value 255"),
    "PDF": (b"%PDF-1.7\n", "a PDF document"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a PostScript document"),
    "mp4": (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2", "a video, not an image; send it to POST /detect/stream"),
    "webm": (b"\x1aE\xdf\xa3\x9fB\x86", "a video"),
    "avi": (b"RIFF\0\0\0\0AVI LIST", "a video"),
    "MPEG-TS": ((b"G" + bytes(187)) * 3, "a video"),
    "WAV": (b"RIFF\0\0\0\0WAVEfmt ", "a sound"),
    "JPEG 2000": (
        encoded(noise(), "JPEG2000"),
        "JPEG 2000, which is not an allowed format; save it as JPEG or PNG",
    ),
    "PSD": (b"8BPS\0\1", r"a Photoshop document \(PSD\)"),
    "EXR": (b"v/1\x01\2\0\0\0", "OpenEXR"),
    "HDR": (b"#?RADIANCE\n", "Radiance HDR"),
    "DICOM": (bytes(128) + b"DICM\2\0", "a DICOM file"),
    "ICO": (encoded(noise((16, 16)), "ICO"), r"a Windows icon \(ICO\)"),
    "PPM": (encoded(noise(), "PPM"), "a Netpbm file"),
    "zip": (zipped(), "a ZIP archive"),
    "tar": (tarred(), "a tar archive, not an image; unpack it"),
    "gzip": (
        b"\x1f\x8b\x08\0",
        "compressed with gzip, not an image; inflate it, or send it with Content-Encoding: gzip",
    ),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a", "a pointer of Git LFS"),
    "numpy": (array_file(), r"a NumPy array \(\.npy\), not an image; encode its pixels"),
    "pickle": (b"\x80\x04\x95\x10\0\0\0\0\0\0\0", "a pickle of Python"),
    "macOS": (b"\0\5\x16\7\0\2\0\0Mac OS X", "metadata of macOS"),
}


@pytest.mark.parametrize(("data", "reason"), MISTAKES.values(), ids=MISTAKES)
def test_the_message_says_what_the_data_is(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImage, match=f"this is {reason}") as refusal:
        decode(data, LIMITS)
    assert "allowed are JPEG, PNG" in str(refusal.value)
    assert len(str(refusal.value)) < 400


def test_data_of_an_unknown_kind_is_not_guessed_at() -> None:
    with pytest.raises(UnreadableImage, match="an image of a known format; convert it; allowed are"):
        decode(bytes(range(128, 255)), LIMITS)


def test_a_format_whose_extra_is_missing_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (decoder, headers):
        monkeypatch.setattr(module, "FORMATS", ("JPEG", "PNG"))
    for data, extra in (
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(99), "heif"),
        (b"\xff\x0a" + bytes(99), "jxl"),
    ):
        with pytest.raises(
            UnreadableImage, match=rf"needs the extra {extra}: pip install 'rcnn-serve\[{extra}\]'"
        ):
            decode(data, LIMITS)


@pytest.mark.parametrize(
    ("marker", "bits", "reason"),
    [(0xC1, 12, "12-bit JPEG is not supported"), (0xC3, 16, "16-bit JPEG"), (0xC5, 8, "hierarchical JPEG")],
)
def test_kinds_of_jpeg_that_no_viewer_shows_are_named(marker: int, bits: int, reason: str) -> None:
    start = JPEG.index(b"\xff\xc0")
    data = (
        JPEG[: start + 1]
        + bytes((marker,))
        + JPEG[start + 2 : start + 4]
        + bytes((bits,))
        + JPEG[start + 5 :]
    )
    with pytest.raises(UnreadableImage, match=reason):
        decode(data, LIMITS)


def test_the_known_formats_are_read_and_not_explained() -> None:
    assert decode(encoded(pillow.new("RGB", (8, 8)), "BMP"), LIMITS).width == 8

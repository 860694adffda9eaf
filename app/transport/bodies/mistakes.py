"""What was sent in place of an image, by its first bytes, and what to do about it."""

import base64
import binascii
import re

from app.errors import InvalidImage
from app.schemas.limits import MAX_QUOTED
from models.images.decoder import FORMATS

HEAD = 1024
"""Bytes at the start of a body that are looked at."""

_IMAGE = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8[79]a|RIFF.{4}WEBP|BM.{12}|II[*+]\0|MM\0[*+]|.{4}ftyp|\xff\x0a|"
    rb"\0\0\0\x0cJXL ",
    re.DOTALL,
)
_BINARY = (
    (
        rb"(?is)--.{0,900}content-disposition:",
        "a multipart body",
        "send it with Content-Type: multipart/form-data; boundary=…, as your HTTP client writes it",
    ),
    (rb"%PDF-", "a PDF document", "export its page as an image"),
    (rb"PK\x03\x04", "a ZIP archive", "send a file of it"),
    (rb"\x1f\x8b", "compressed with gzip", "inflate it, or send it with Content-Encoding: gzip"),
    (rb"\x28\xb5\x2f\xfd", "compressed with zstd", "inflate it, or send it with Content-Encoding: zstd"),
    (
        rb"(\xef\xbf\xbd|\xc2\x89|\xc3\xbf\xc3\x98)(\xef\xbf\xbd|PNG|\xc3\xbf)",
        "the bytes of an image that were taken for text and encoded again",
        "read and send the file as bytes",
    ),
)
_VIDEO = re.compile(
    rb".{4}ftyp(isom|iso[2-9]|mp4[12]|avc1|M4V |qt  |3gp.)|\x1aE\xdf\xa3|RIFF.{4}AVI ", re.DOTALL
)
_TEXT = (
    (rb"\[object \w+\]", "a JavaScript object that was made a text", "send the File, Blob or bytes"),
    (rb"b['\"]\\x", "the text of Python bytes", "send the bytes themselves"),
    (rb"(0x|\\x)?(ffd8ff|89504e47|47494638|52494646)", "hexadecimal text", "decode it and send the bytes"),
    (rb"[\[{]", "JSON", "send it with Content-Type: application/json"),
    (rb"data:", "a data URL", 'send it as JSON, {"image": "data:…"}, or decode it'),
    (rb"<!doctype html|<html|.{0,900}<(head|body)[ >]", "an HTML page", "look at what the address has"),
    (rb"<svg|.{0,900}<svg[ >]", "an SVG drawing", "convert it to PNG"),
    (rb"<\?xml|<[a-z]", "XML", "send the image that it names"),
    (rb"version https://git-lfs", "a pointer of Git LFS", "run `git lfs pull` and send the file"),
    (rb"https?://\S+\s*$", "an address", 'send its content, or {"url": "…"} as JSON if the server fetches'),
    (
        rb"\w{1,40}(=|%3d)[^=]",
        "a form without a file",
        "send the file with curl -F image=@photo.jpg or --data-binary @photo.jpg",
    ),
)
_BINARY_KINDS = tuple((re.compile(pattern), what, advice) for pattern, what, advice in _BINARY)
_TEXT_KINDS = tuple((re.compile(pattern, re.I | re.DOTALL), what, advice) for pattern, what, advice in _TEXT)
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")
_BLANKS = b" \t\r\n"
_STANDARD = bytes.maketrans(b"-_", b"+/")
_LEAST_BASE64 = 100  # characters that no name or word has without a blank

EMPTY = (
    "the image is empty (0 bytes); send the content of an image file, with curl: -F image=@photo.jpg or "
    "--data-binary @photo.jpg"
)
_CURL = "with curl, write @ before its name: -F image=@photo.jpg or --data-binary @photo.jpg"
_STRIPPED = (
    "the image has no line breaks and no zero bytes: `curl -d` removes them; use --data-binary @photo.jpg"
)


def is_image(data: bytes | bytearray) -> bool:
    """Whether the first bytes are those of an image format; the decoder may know more formats."""
    return _IMAGE.match(data) is not None


def mistake(data: bytes) -> str | None:
    """What a body is that is no image, and what to do; None for what only the decoder can judge."""
    if not data:
        return EMPTY
    head = data[:HEAD]
    for pattern, what, advice in _BINARY_KINDS:
        if pattern.match(head):
            return _message(what, advice)
    if is_image(head) or not is_text(head):
        return None
    return _of_text(head.removeprefix(b"\xef\xbb\xbf").lstrip(_BLANKS))


def video_mistake(data: bytes) -> str | None:
    """As `mistake`, of a video."""
    return _message("a video", "send it to POST /detect/stream") if _VIDEO.match(data) else None


def stripped_mistake(data: bytes) -> str | None:
    """As `mistake`, of an image from which `curl -d` removed bytes: no image lacks them by chance."""
    stripped = len(data) > HEAD and not any(byte in data for byte in (b"\n", b"\r", b"\0"))
    return _STRIPPED if stripped and is_image(data) else None


def check_image(data: bytes) -> bytes:
    """The data; raises InvalidImage with what it is, where it is no image."""
    if text := mistake(data):
        raise InvalidImage(text)
    return data


def _message(what: str, advice: str) -> str:
    return f"this is {what}, not an image; {advice}"


def is_text(data: bytes) -> bool:
    """Whether the first bytes are printable; the last character may be cut."""
    head = data[:HEAD]
    try:
        text = head.decode("utf-8") if len(head) < HEAD else head.decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return False
    if len(head) == HEAD and len(text.encode()) < len(head) - 3:
        return False
    return all(letter.isprintable() or letter in "\t\r\n\ufeff" for letter in text)


def _of_text(head: bytes) -> str:
    for pattern, what, advice in _TEXT_KINDS:
        if pattern.match(head):
            return _message(what, advice)
    if _is_base64(head):
        return _message(
            "base64 text",
            'send it as JSON, {"image": "<base64>"} with Content-Type: application/json, or decode it',
        )
    shown = head[: MAX_QUOTED * 4].decode("utf-8", "ignore")[:MAX_QUOTED]
    advice = _CURL if len(head.split()) == 1 else f"allowed are {', '.join(FORMATS)}"
    return _message(f"the text {shown!r}", f"send the content of an image file; {advice}")


def _is_base64(head: bytes) -> bool:
    text = head.translate(None, _BLANKS)
    if not _BASE64.fullmatch(text):
        return False
    try:
        start = base64.b64decode(text[: len(text[:64]) // 4 * 4].translate(_STANDARD))
    except binascii.Error:
        return False
    return is_image(start) or len(text) >= _LEAST_BASE64

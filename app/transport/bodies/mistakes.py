"""What was sent in place of an image, and what the client can do about it."""

from app.errors import InvalidImage
from app.schemas.limits import MAX_QUOTED
from models.images import mistakes
from models.images.headers import is_still
from models.images.openers import FORMATS

EMPTY = (
    "the image is empty (0 bytes); send the content of an image file, with curl: -F image=@photo.jpg or "
    "--data-binary @photo.jpg"
)
_CURL = "with curl, write @ before its name: -F image=@photo.jpg or --data-binary @photo.jpg"
_STRIPPED = (
    "the image has no line breaks and no zero bytes: `curl -d` removes them; use --data-binary @photo.jpg"
)


def mistake(data: bytes) -> str | None:
    """What a body is that is no image, and what to do; None for what only the decoder can judge."""
    if not data:
        return EMPTY
    head = data[: mistakes.HEAD]
    if found := mistakes.of_binary(head):
        return found
    if mistakes.starts_as_image(head) or not mistakes.is_text(head):
        return None
    return _of_text(head.removeprefix(b"\xef\xbb\xbf").lstrip())


def video_mistake(data: bytes) -> str | None:
    """As `mistake`, of a video; an image in the same container is none."""
    return None if is_still(data[: mistakes.HEAD]) else mistakes.of_video(data[: mistakes.HEAD])


def stripped_mistake(data: bytes) -> str | None:
    """As `mistake`, of an image from which `curl -d` removed bytes: no image lacks them by chance."""
    stripped = len(data) > mistakes.HEAD and not any(byte in data for byte in (b"\n", b"\r", b"\0"))
    return _STRIPPED if stripped and mistakes.starts_as_image(data) else None


def check_image(data: bytes) -> bytes:
    """The data; raises InvalidImage with what it is, where it is no image."""
    if text := mistake(data):
        raise InvalidImage(text)
    return data


def _of_text(head: bytes) -> str:
    if found := mistakes.of_text(head):
        return found
    shown = head[: MAX_QUOTED * 4].decode("utf-8", "ignore")[:MAX_QUOTED]
    advice = _CURL if len(head.split()) == 1 else f"allowed are {', '.join(FORMATS)}"
    return mistakes.sentence(f"the text {shown!r}", f"send the content of an image file; {advice}")

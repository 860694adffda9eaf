"""The images of a request and the options beside them, in a raw, JSON or multipart body."""

import time

from starlette.requests import Request

from app.errors import InvalidImage, UnsupportedMediaType
from app.schemas.limits import MAX_QUOTED
from app.transport.bodies import mistakes
from app.transport.bodies.documents import USAGE, read_document
from app.transport.bodies.forms import read_image_form
from app.transport.bodies.image_request import Accepted, ImageRequest
from app.transport.body import MEDIA_TYPES, MULTIPART, media_type_of, read_within, unsupported
from app.transport.multipart import without_boundary
from models.images.mistakes import is_text, starts_as_image


async def read_image_request(request: Request, seconds: float, accepted: Accepted) -> ImageRequest:
    """The images and options of the body, which must arrive within `seconds`; raises ServiceError."""
    deadline = time.monotonic() + seconds
    media_type, parameters = media_type_of(request)
    if media_type == MULTIPART and b"boundary" in parameters:
        return await read_within(seconds, read_image_form(request, parameters, accepted))
    if not (accepted.raw or _is_json(media_type)):
        raise unsupported(media_type, f"{MULTIPART} with 1 to {accepted.at_most} parts `image`, or {USAGE}")
    body = await read_within(seconds, request.body())
    if _is_json(media_type) and not starts_as_image(body):
        return await read_document(request, body, accepted, deadline)
    return ImageRequest([_of_raw(body, media_type, accepted)])


def _is_json(media_type: str) -> bool:
    return media_type.endswith(("/json", "+json"))


def _of_raw(body: bytes, media_type: str, accepted: Accepted) -> bytes:
    """The body, whatever its Content-Type says; raises InvalidImage or UnsupportedMediaType."""
    if media_type == MULTIPART and not starts_as_image(body):
        raise without_boundary()
    text = mistakes.mistake(body) or (None if accepted.video else mistakes.video_mistake(body))
    if text is None and media_type == "application/x-www-form-urlencoded":
        text = mistakes.stripped_mistake(body)
    if text is None:
        return body
    known = media_type.startswith(("image/", "video/")) or media_type == "application/octet-stream"
    if known or not is_text(body):
        raise InvalidImage(text)
    sent = f"Content-Type {media_type[:MAX_QUOTED]!r}" if media_type else "no Content-Type"
    raise UnsupportedMediaType(f"{sent}, and {text}; allowed are {MEDIA_TYPES}")

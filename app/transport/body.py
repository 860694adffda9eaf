"""Request bodies within their time, their media types, and forms of any fields."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from app.errors import DeadlineExceeded, InvalidParameter, UnsupportedMediaType
from app.schemas.limits import MAX_FIELD_BYTES, MAX_FORM_PARTS, MAX_MEDIA_TYPE, MAX_QUOTED
from app.transport.multipart import Part, read_parts

R = TypeVar("R")

MULTIPART = "multipart/form-data"
MEDIA_TYPES = f"{MULTIPART} with a part `image`, image/*, application/octet-stream or application/json"


@dataclass(frozen=True)
class Form:
    """A form: its fields, and its files by their field's names, both in the order sent."""

    fields: dict[str, str]
    files: list[tuple[str, bytes]]

    def image(self, *names: str) -> bytes:
        """The file with the first of these names, else the first file; raises InvalidParameter."""
        files = dict(reversed(self.files))
        candidates = [files[name] for name in names if name in files] or [data for _, data in self.files]
        if not candidates:
            raise InvalidParameter(f"the form has no file; send the image as the file `{names[0]}`")
        return candidates[0]


async def read_form(request: Request, seconds: float, image_names: tuple[str, ...]) -> Form:
    """A multipart form of any fields; a part named in `image_names` is a file even without a file name."""
    media_type, options = media_type_of(request)
    if media_type != MULTIPART:
        raise unsupported(media_type, f"{MULTIPART} with a file `{image_names[0]}`")
    form = Form({}, [])
    for part in await read_within(seconds, read_parts(request, options, _check_form_part)):
        if part.filename is not None or part.name in image_names:
            form.files.append((part.name, bytes(part.data)))
        else:
            form.fields[part.name] = text_of(part)
    return form


def text_of(part: Part) -> str:
    """The text of a field of a form; raises InvalidParameter for a long one."""
    if len(part.data) > MAX_FIELD_BYTES:
        raise InvalidParameter(
            f"the field {part.name[:MAX_QUOTED]!r} has more than {MAX_FIELD_BYTES} bytes; send an image as a "
            "file"
        )
    return part.data.decode("utf-8", "replace")


def _check_form_part(name: str, already: int) -> None:
    if already == MAX_FORM_PARTS:
        raise InvalidParameter(
            f"more than {MAX_FORM_PARTS} parts in the form; send the image and its options"
        )


async def read_within(seconds: float, body: Awaitable[R]) -> R:
    """The request's body, if it arrives within `seconds`; raises DeadlineExceeded."""
    try:
        async with asyncio.timeout(seconds):
            return await body
    except TimeoutError as error:
        raise DeadlineExceeded(
            "the request body did not arrive within the request's time; send it faster, or raise timeout_ms"
        ) from error


def media_type_of(request: Request) -> tuple[str, dict[bytes, bytes]]:
    """The body's Content-Type and its options; raises UnsupportedMediaType for a very long one."""
    content_type = request.headers.get("content-type", "")
    if len(content_type) > MAX_MEDIA_TYPE:
        raise unsupported(content_type, f"one of at most {MAX_MEDIA_TYPE} characters")
    media_type, options = parse_options_header(content_type)
    return media_type.decode("latin-1"), options


def unsupported(media_type: str, allowed: str) -> UnsupportedMediaType:
    """The error for a Content-Type, or for its absence, that says what to send."""
    sent = f"Content-Type {media_type[:MAX_QUOTED]!r}" if media_type else "no Content-Type"
    return UnsupportedMediaType(f"{sent}; send {allowed}")

"""The images of a request: in a raw, JSON or multipart body."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from app.errors import DeadlineExceeded, InvalidParameter, UnsupportedMediaType
from app.schemas.limits import MAX_FIELD_BYTES, MAX_FORM_PARTS, MAX_MEDIA_TYPE, MAX_QUOTED
from app.schemas.options import ImageBody
from app.transport.json_body import decode_base64, parse_json
from app.transport.multipart import Part, read_parts
from app.transport.threads import run_sized

R = TypeVar("R")

IMAGE_PARTS = ("image", "file")
MULTIPART = "multipart/form-data"
MEDIA_TYPES = f"{MULTIPART} with a part `image`, image/*, application/octet-stream or application/json"


async def read_image(request: Request, seconds: float, kinds: tuple[str, ...] = ("image/",)) -> bytes:
    """The request's one file, sent as its Content-Type says; waits at most `seconds` for the body."""
    media_type, options = media_type_of(request)
    if media_type == MULTIPART:
        return (await read_within(seconds, _image_parts(request, options, at_most=1)))[0]
    if media_type == "application/json":
        body = await read_within(seconds, request.body())
        return await run_sized(len(body), _image_of_json, body)
    if media_type.startswith(kinds) or media_type == "application/octet-stream":
        return await read_within(seconds, request.body())
    raise unsupported(media_type, MEDIA_TYPES)


async def read_images(request: Request, seconds: float, at_most: int) -> list[bytes]:
    """The images of a multipart request, in order; waits at most `seconds` for the body."""
    media_type, options = media_type_of(request)
    if media_type != MULTIPART:
        raise unsupported(media_type, f"{MULTIPART} with 1 to {at_most} parts `image`")
    return await read_within(seconds, _image_parts(request, options, at_most))


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
            form.fields[part.name] = _text(part)
    return form


def _text(part: Part) -> str:
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
    """The body's Content-Type and its options; raises UnsupportedMediaType for a compressed body."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise UnsupportedMediaType(f"Content-Encoding {encoding[:MAX_QUOTED]!r}; send the body uncompressed")
    content_type = request.headers.get("content-type", "")
    if len(content_type) > MAX_MEDIA_TYPE:
        raise unsupported(content_type, f"one of at most {MAX_MEDIA_TYPE} characters")
    media_type, options = parse_options_header(content_type)
    return media_type.decode("latin-1"), options


def unsupported(media_type: str, allowed: str) -> UnsupportedMediaType:
    """The error for a Content-Type, or for its absence, that says what to send."""
    sent = f"Content-Type {media_type[:MAX_QUOTED]!r}" if media_type else "no Content-Type"
    return UnsupportedMediaType(f"{sent}; send {allowed}")


def _image_of_json(body: bytes) -> bytes:
    return decode_base64(parse_json(body, ImageBody, '{"image": "<base64>"}').image, "image")


async def _image_parts(request: Request, options: dict[bytes, bytes], at_most: int) -> list[bytes]:
    def check_part(name: str, already: int) -> None:
        if name not in IMAGE_PARTS:
            raise InvalidParameter(
                f"unknown part {name[:MAX_QUOTED]!r}; send the image as `image` or `file`, options in the "
                "query"
            )
        if already == at_most:
            raise _too_many(at_most)

    parts = await read_parts(request, options, check_part)
    if not parts:
        raise InvalidParameter("the multipart body has no part `image`; send the image file as that part")
    return [bytes(part.data) for part in parts]


def _too_many(at_most: int) -> InvalidParameter:
    if at_most == 1:
        return InvalidParameter("more than one image part; send one, or many to POST /detect/batch")
    return InvalidParameter(f"more than {at_most} image parts; send at most {at_most} in one request")

"""What a request says: its options in the query, its images in a raw, JSON or multipart body."""

import asyncio
import binascii
import re
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from app.errors import DeadlineExceeded, InvalidParameter, UnsupportedMediaType
from app.schemas.options import ImageBody
from app.transport.multipart import read_parts

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R")

IMAGE_PARTS = ("image", "file")
MAX_FORM_PARTS = 64  # of another server's form: far more than any has, and few enough to hold
MULTIPART = "multipart/form-data"
MEDIA_TYPES = f"{MULTIPART} with a part `image`, image/*, application/octet-stream or application/json"

_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,")
_SHOWN = 60  # characters of a client's own value that an error repeats


async def read_image(request: Request, seconds: float, kinds: tuple[str, ...] = ("image/",)) -> bytes:
    """The one file of the request, sent as its Content-Type says; waits at most `seconds` for the body."""
    media_type, options = media_type_of(request)
    if media_type == MULTIPART:
        return (await read_within(seconds, _image_parts(request, options, at_most=1)))[0]
    if media_type == "application/json":
        return await run_in_threadpool(_image_of_json, await read_within(seconds, request.body()))
    if media_type.startswith(kinds) or media_type == "application/octet-stream":
        return await read_within(seconds, request.body())
    raise UnsupportedMediaType(f"{said(media_type)}; send {MEDIA_TYPES}")


async def read_images(request: Request, seconds: float, at_most: int) -> list[bytes]:
    """The images of a multipart request, in order; waits at most `seconds` for the body."""
    media_type, options = media_type_of(request)
    if media_type != MULTIPART:
        raise UnsupportedMediaType(f"{said(media_type)}; send {MULTIPART} with 1 to {at_most} parts `image`")
    return await read_within(seconds, _image_parts(request, options, at_most))


@dataclass(frozen=True)
class Form:
    """A form: its fields, and its files by their field's names, both in the order sent."""

    fields: dict[str, str]
    files: list[tuple[str, bytes]]

    def image(self, *names: str) -> bytes:
        """The file under the first of these names that there is, else the first; raises InvalidParameter."""
        known = dict(reversed(self.files))
        found = [known[name] for name in names if name in known] or [data for _, data in self.files]
        if not found:
            raise InvalidParameter(f"the form has no file; send the image as the file `{names[0]}`")
        return found[0]


async def read_form(request: Request, seconds: float, image_names: tuple[str, ...]) -> Form:
    """A multipart form of any fields; a part under one of `image_names` is a file, file name or not."""
    media_type, options = media_type_of(request)
    if media_type != MULTIPART:
        raise UnsupportedMediaType(f"{said(media_type)}; send {MULTIPART} with a file `{image_names[0]}`")
    parts = await read_within(seconds, read_parts(request, options, _admit_any))
    is_file = [part.filename is not None or part.name in image_names for part in parts]
    return Form(
        {
            p.name: p.data.decode("utf-8", "replace")
            for p, file in zip(parts, is_file, strict=True)
            if not file
        },
        [(p.name, bytes(p.data)) for p, file in zip(parts, is_file, strict=True) if file],
    )


def _admit_any(name: str, already: int) -> None:
    if already == MAX_FORM_PARTS:
        raise InvalidParameter(
            f"more than {MAX_FORM_PARTS} parts in the form; send the image and its options"
        )


async def cancel_on_disconnect(request: Request, work: Awaitable[R]) -> R:
    """Await `work`, with the body read; cancel it and raise ClientDisconnect as soon as the client leaves."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        task.cancel()
        gone.cancel()
        # What the work holds (its permit, its place in the queue) is given back before the request ends.
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def read_within(seconds: float, body: Awaitable[R]) -> R:
    """The request's body, if it arrives within so many seconds; raises DeadlineExceeded."""
    try:
        async with asyncio.timeout(seconds):
            return await body
    except TimeoutError as error:
        raise DeadlineExceeded(
            "the request body did not arrive within the request's time; send it faster, or raise timeout_ms"
        ) from error


def media_type_of(request: Request) -> tuple[str, dict[bytes, bytes]]:
    """The body's Content-Type and its options; raises UnsupportedMediaType for a body that is encoded."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise UnsupportedMediaType(f"Content-Encoding {encoding[:_SHOWN]!r}; send the body uncompressed")
    media_type, options = parse_options_header(request.headers.get("content-type"))
    return media_type.decode("latin-1"), options


def said(media_type: str) -> str:
    """What an error repeats of a Content-Type."""
    return f"Content-Type {media_type[:_SHOWN]!r}" if media_type else "no Content-Type"


def _image_of_json(body: bytes) -> bytes:
    return decode_base64(parse_json(body, ImageBody, '{"image": "<base64>"}').image, "image")


def parse_json(body: bytes, model: type[M], example: str) -> M:
    """A JSON body as a value of the model; raises InvalidParameter that shows the `example`."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:_SHOWN] or "body"
        raise InvalidParameter(f"{where}: {first['msg']}; send {example}") from error


def decode_base64(text: str, where: str) -> bytes:
    """The bytes that a text is the base64 of; a data URL is taken too. Raises InvalidParameter."""
    prefix = _DATA_URL.match(text)
    try:
        # Line breaks are what the base64 command adds; any other stranger in the text is an error.
        encoded = text[prefix.end() if prefix else 0 :].encode("ascii").translate(None, b" \t\r\n")
        return binascii.a2b_base64(encoded, strict_mode=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise InvalidParameter(
            f"{where}: not valid base64 ({error}); encode the bytes of the image file"
        ) from error


async def _image_parts(request: Request, options: dict[bytes, bytes], at_most: int) -> list[bytes]:
    def admit(name: str, already: int) -> None:
        if name not in IMAGE_PARTS:
            raise InvalidParameter(
                f"unknown part {name[:_SHOWN]!r}; send the image as `image` or `file`, options in the query"
            )
        if already == at_most:
            _refuse_more(at_most)

    parts = await read_parts(request, options, admit)
    if not parts:
        raise InvalidParameter("the multipart body has no part `image`; send the image file as that part")
    return [bytes(part.data) for part in parts]


def _refuse_more(at_most: int) -> NoReturn:
    if at_most == 1:
        raise InvalidParameter("more than one image part; send one, or many to POST /detect/batch")
    raise InvalidParameter(f"more than {at_most} image parts; send at most {at_most} in one request")

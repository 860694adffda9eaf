"""Images and options in JSON: base64, data URLs and addresses."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request

from app.errors import InvalidImage, InvalidParameter, ServiceError
from app.schemas.image_body import ImageBody
from app.schemas.options import unknown_option
from app.transport.bodies.image_request import Accepted, ImageRequest, OtherProtocol, SentImage
from app.transport.bodies.mistakes import mistake
from app.transport.json_body import decode_base64, explain_first, parse_object
from app.transport.threads import run_sized
from app.transport.url_images import fetch_image

USAGE = '{"image": "<base64>"} or {"images": ["<base64>"]}, with options beside it'


@dataclass(frozen=True)
class _Address:
    """Where an image is."""

    url: str


@dataclass(frozen=True, eq=False)
class _Parsed:
    """As ImageRequest, of images that are not fetched yet."""

    sources: list[SentImage | _Address]
    values: dict[str, Any]
    many: bool = False
    other: OtherProtocol | None = None


async def read_document(request: Request, body: bytes, accepted: Accepted, deadline: float) -> ImageRequest:
    """The images and options of a JSON body; fetches images until the deadline (monotonic)."""
    parsed = await run_sized(len(body), _parse, body, accepted)
    images = [await _content(request, source, deadline) for source in parsed.sources]
    return ImageRequest(images, parsed.values, parsed.many, parsed.other)


def _parse(body: bytes, accepted: Accepted) -> _Parsed:
    values, other, options = parse_object(body, USAGE), accepted.other, accepted.options
    if other is not None and other.owns(values):
        return _Parsed([_foreign_source(values.pop(other.image), other.image)], values, other=other)
    keys = tuple(ImageBody.model_fields)
    sources = {name: values.pop(name) for name in keys if values.get(name) is not None}
    for name in values:
        if name not in options.model_fields and name not in keys:
            raise InvalidParameter(unknown_option(name, (*keys, *options.model_fields)))
    if len(sources) != 1:
        raise InvalidParameter(f"the JSON has {len(sources)} of {', '.join(keys)}; send {USAGE}")
    try:
        images = ImageBody.model_validate(sources)
    except ValidationError as error:
        raise InvalidParameter(f"{explain_first(error)}; send {USAGE}") from error
    return _Parsed(list(_sources(images)), values, images.images is not None)


def _foreign_source(value: object, where: str) -> SentImage | _Address:
    """The image of another protocol: base64, a data URL or an address in the same key."""
    if not isinstance(value, str):
        return InvalidParameter(f"{where}: no text; send the bytes of the image file in base64")
    is_address = value[:8].lower().startswith(("http://", "https://"))
    return _source(None, value, where) if is_address else _source(value, None, where)


def _sources(images: ImageBody) -> Iterator[SentImage | _Address]:
    """Each image, or where it is; one that is not valid base64 is its error."""
    for index, item in enumerate(images.images or ()):
        where = f"images.{index}"
        yield _source(item, None, where) if isinstance(item, str) else _source(item.image, item.url, where)
    if images.images is None:
        yield _source(images.image, images.url, "image" if images.url is None else "url")


def _source(text: str | None, url: str | None, where: str) -> SentImage | _Address:
    if (text is None) == (url is None):
        return InvalidParameter(f"{where}: either `image` or `url`; send {USAGE}")
    if url is not None and url[:16].lstrip()[:5].lower() != "data:":
        return _Address(url)
    try:
        data = decode_base64(text or url or "", where)
    except InvalidParameter as error:
        return error
    wrong = mistake(data)
    return data if wrong is None else InvalidImage(f"{where}: {wrong}")


async def _content(request: Request, image: SentImage | _Address, deadline: float) -> SentImage:
    if not isinstance(image, _Address):
        return image
    try:
        data = await fetch_image(request, image.url, deadline)
    except ServiceError as error:
        return error
    wrong = mistake(data)
    return data if wrong is None else InvalidImage(f"the content of the address: {wrong}")

"""Images and options in multipart/form-data."""

from starlette.requests import Request

from app.errors import InvalidImage, InvalidParameter
from app.schemas.limits import MAX_FORM_PARTS
from app.schemas.options import OptionSet, unknown_option
from app.transport.bodies.image_request import Accepted, ImageRequest, SentImage
from app.transport.bodies.mistakes import mistake
from app.transport.body import text_of
from app.transport.multipart import CheckPart, Part, read_parts
from app.transport.query import LISTS

IMAGE_PARTS = ("image", "file")


def _part_check(accepted: Accepted) -> CheckPart:
    """Refuses a part before its content: an unknown name, or one too many."""
    count = 0

    def check(name: str, already: int) -> None:
        nonlocal count
        if already == MAX_FORM_PARTS:
            raise InvalidParameter(f"more than {MAX_FORM_PARTS} parts; send images and options only")
        if name not in IMAGE_PARTS:
            _check_option_part(name, accepted.options)
            return
        if count == accepted.at_most:
            raise _too_many(accepted.at_most)
        count += 1

    return check


def _check_option_part(name: str, options: type[OptionSet]) -> None:
    if name not in options.model_fields:
        reason = unknown_option(name, (*IMAGE_PARTS, *options.model_fields), "part")
        raise InvalidParameter(f"{reason}; send the image as the file `image` or `file`")


async def read_image_form(
    request: Request, parameters: dict[bytes, bytes], accepted: Accepted
) -> ImageRequest:
    """The images and the options of a form with these Content-Type parameters; raises InvalidParameter."""
    images: list[SentImage] = []
    options: dict[str, object] = {}
    for part in await read_parts(request, parameters, _part_check(accepted)):
        if part.name in IMAGE_PARTS:
            images.append(_of_part(part))
        elif text := text_of(part).strip():
            _add_option(options, part.name, text)
    if not images:
        raise InvalidParameter("the multipart body has no part `image`; send the image file as that part")
    return ImageRequest(images, options)


def _add_option(options: dict[str, object], name: str, text: str) -> None:
    """A field of a form; one that is empty is left out, as forms send all their fields."""
    if name in LISTS:
        options[name] = [*_listed(options.get(name)), text]
    elif name in options:
        raise InvalidParameter(f"{name} was given twice in the form; give it once")
    else:
        options[name] = text


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _of_part(part: Part) -> SentImage:
    data = bytes(part.data)
    text = mistake(data)
    if text is None:
        return data
    if part.filename is None:
        text = f"the part {part.name!r} is a field without a file: {text}; in JavaScript, append a Blob"
    return InvalidImage(text)


def _too_many(at_most: int) -> InvalidParameter:
    if at_most == 1:
        return InvalidParameter("more than one image part; send one, or many to POST /detect/batch")
    return InvalidParameter(f"more than {at_most} image parts; send at most {at_most} in one request")

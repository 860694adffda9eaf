"""JSON bodies, and images in base64 inside them."""

import binascii
import re
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from app.errors import InvalidParameter
from app.schemas.limits import MAX_JSON_VALUES, MAX_QUOTED
from app.transport.threads import run_sized

M = TypeVar("M", bound=BaseModel)

_DATA_URL = re.compile(r"data:image/[\w.+-]{1,64};base64,")


async def read_json(body: bytes, model: type[M], example: str) -> M:
    """As parse_json, on a thread for a large body."""
    return await run_sized(len(body), parse_json, body, model, example)


def parse_json(body: bytes, model: type[M], example: str) -> M:
    """A JSON body as a value of the model; raises InvalidParameter with the `example`."""
    check_values(body, example)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:MAX_QUOTED] for part in first["loc"])[:MAX_QUOTED] or "body"
        raise InvalidParameter(f"{where}: {first['msg']}; send {example}") from error


def check_values(body: bytes, example: str) -> None:
    """Raise InvalidParameter for JSON of too many values, before one of them is built.

    Each value follows a comma or the bracket of its list or object; those within texts count too.
    """
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_JSON_VALUES:
        raise InvalidParameter(
            f"the JSON has more than {MAX_JSON_VALUES} values; send {example}, and leave out what is no part "
            "of the request"
        )


def decode_base64(text: str, where: str) -> bytes:
    """The bytes of a text in base64 or of a data URL; raises InvalidParameter."""
    prefix = _DATA_URL.match(text)
    try:
        # The base64 command adds line breaks; any other character outside the alphabet is an error.
        encoded = text[prefix.end() if prefix else 0 :].encode("ascii").translate(None, b" \t\r\n")
        return binascii.a2b_base64(encoded, strict_mode=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise InvalidParameter(
            f"{where}: not valid base64 ({error}); encode the bytes of the image file"
        ) from error

"""JSON bodies, and images in base64 inside them."""

import binascii
import re
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from app.errors import InvalidParameter
from app.schemas.options import MAX_QUOTED

M = TypeVar("M", bound=BaseModel)

_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,")


def parse_json(body: bytes, model: type[M], example: str) -> M:
    """A JSON body as a value of the model; raises InvalidParameter with the `example`."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:MAX_QUOTED] or "body"
        raise InvalidParameter(f"{where}: {first['msg']}; send {example}") from error


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

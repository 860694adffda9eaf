"""JSON bodies, and images in base64 inside them."""

import binascii
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from app.errors import InvalidParameter
from app.schemas.limits import MAX_JSON_VALUES, MAX_MEDIA_TYPE, MAX_QUOTED
from app.transport.threads import run_sized

M = TypeVar("M", bound=BaseModel)

_STANDARD = bytes.maketrans(b"-_", b"+/")
"""From the alphabet for URLs and file names (RFC 4648 §5)."""

_BLANKS = b" \t\r\n"  # the base64 command adds line breaks

_ESCAPES = (("%2B", "+"), ("%2F", "/"), ("%3D", "="), ("%2D", "-"), ("%5F", "_"), ("%0A", ""), ("%0D", ""))
"""What of base64 a URL may escape."""


async def read_json(body: bytes, model: type[M], example: str) -> M:
    """As parse_json, on a thread for a large body."""
    return await run_sized(len(body), parse_json, body, model, example)


def parse_json(body: bytes, model: type[M], example: str) -> M:
    """A JSON body as a value of the model; raises InvalidParameter with the `example`."""
    check_values(body, example)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise InvalidParameter(f"{explain_first(error)}; send {example}") from error


def parse_object(body: bytes, example: str) -> dict[str, Any]:
    """A JSON object by its keys; raises InvalidParameter with the `example`."""
    check_values(body, example)
    try:
        values = from_json(body)
    except ValueError as error:
        raise InvalidParameter(
            f"the body is not valid JSON ({str(error)[:MAX_QUOTED]}); send {example}"
        ) from error
    if not isinstance(values, dict):
        raise InvalidParameter(f"the JSON is no object; send {example}")
    return values


def explain_first(error: ValidationError) -> str:
    """Where the first fault is and what it is."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part)[:MAX_QUOTED] for part in first["loc"])[:MAX_QUOTED] or "body"
    return f"{where}: {first['msg']}"


def check_values(body: bytes, example: str) -> None:
    """Raise InvalidParameter for JSON of too many values, before one of them is built.

    Each value follows a comma or the bracket of its list or object; those within texts count too.
    """
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_JSON_VALUES:
        raise InvalidParameter(
            f"the JSON has more than {MAX_JSON_VALUES} values; send {example}, and leave out what is no part "
            "of the request"
        )


def from_base64(text: bytes | bytearray) -> bytes:
    """The bytes of base64 in either alphabet, with or without padding and blanks; raises binascii.Error."""
    encoded = text.translate(_STANDARD, _BLANKS).rstrip(b"=")
    return binascii.a2b_base64(encoded + b"=" * (-len(encoded) % 4), strict_mode=True)


def decode_base64(text: str, where: str) -> bytes:
    """The bytes of a text in base64, with or without padding, or of a data URL; raises InvalidParameter."""
    try:
        return from_base64(_without_prefix(text, where).encode("ascii"))
    except (UnicodeEncodeError, binascii.Error) as error:
        raise InvalidParameter(
            f"{where}: not valid base64 ({error}); encode the bytes of the image file{_advice(text)}"
        ) from error


def _without_prefix(text: str, where: str) -> str:
    """The base64 of a data URL (RFC 2397), whatever its media type; another text as it is."""
    start = text[:MAX_MEDIA_TYPE].lstrip()
    if start[:5].lower() != "data:":
        return text
    head, comma, _ = start.partition(",")
    if not comma or not re.search(r";\s*base64\s*$", head, re.IGNORECASE):
        raise InvalidParameter(
            f"{where}: a data URL without `;base64,`; encode the bytes of the image file in base64"
        )
    encoded = text[text.index(",") + 1 :]
    for escape, character in _ESCAPES if "%" in encoded else ():
        encoded = encoded.replace(escape, character).replace(escape.lower(), character)
    return encoded


def _advice(text: str) -> str:
    """What else to do with an address in place of base64."""
    return (
        '; send an address as {"url": "…"}' if text[:16].lstrip().startswith(("http://", "https://")) else ""
    )

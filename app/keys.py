"""The keys of the server, and whether a caller has one of them; in whichever protocol it came."""

import hmac
from collections.abc import Iterable

from app.errors import Unauthorized
from app.service import DetectionService


def check_key(service: DetectionService, offered: Iterable[str], also: str = "") -> None:
    """Raise Unauthorized unless one is a key of the server's; all are compared, each in constant time.

    `also` names another place than the headers that the protocol has for its key.
    """
    keys = service.settings.api_keys
    given = [text.encode("utf-8", "surrogatepass") for text in offered]
    matches = [
        hmac.compare_digest(key.get_secret_value().encode(), candidate) for key in keys for candidate in given
    ]
    if keys and not any(matches):
        wrong = "this key is not valid" if given else "no key was sent"
        raise Unauthorized(f"{wrong}; send one as `Authorization: Bearer KEY` or `X-API-Key: KEY`{also}")

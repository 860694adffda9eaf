"""The keys of the server, and whether a caller has one of them; in whichever protocol it came."""

import hmac
from collections.abc import Iterable, Sequence
from typing import Protocol

from app.errors import Forbidden, Unauthorized
from app.service import DetectionService


class Secret(Protocol):
    """A key as the settings hold it."""

    def get_secret_value(self) -> str: ...


def check_key(service: DetectionService, offered: Iterable[str], also: str = "") -> None:
    """Raise Unauthorized unless one is a key of the server's; all are compared, each in constant time.

    `also` names another place than the headers that the protocol has for its key.
    """
    keys = service.settings.api_keys
    given = list(offered)
    if keys and not _any_matches(keys, given):
        wrong = "this key is not valid" if given else "no key was sent"
        raise Unauthorized(f"{wrong}; send one as `Authorization: Bearer KEY` or `X-API-Key: KEY`{also}")


def check_admin(service: DetectionService, offered: Iterable[str]) -> None:
    """Raise Unauthorized unless one is a key that may load models, Forbidden where there is no such key."""
    keys = service.settings.admin_keys
    if not keys:
        raise Forbidden("loading models is off; to allow it, start the server with RCNN_ADMIN_KEYS")
    given = list(offered)
    if not _any_matches(keys, given):
        wrong = "this key may not load models" if given else "no key was sent"
        raise Unauthorized(
            f"{wrong}; send one of RCNN_ADMIN_KEYS as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
        )


def _any_matches(keys: Sequence[Secret], offered: Sequence[str]) -> bool:
    given = [text.encode("utf-8", "surrogatepass") for text in offered]
    matches = [
        hmac.compare_digest(key.get_secret_value().encode(), candidate) for key in keys for candidate in given
    ]
    return any(matches)

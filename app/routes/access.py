"""What every route needs of the app: the service, and the check of the caller's key."""

import hmac
from typing import Annotated, cast

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from app.errors import Unauthorized
from app.service import DetectionService

_bearer = HTTPBearer(auto_error=False, description="One of the keys in RCNN_API_KEYS, if the server has any.")
_header = APIKeyHeader(
    name="X-API-Key", auto_error=False, description="The same key, for clients without Bearer."
)


def service_of(request: Request) -> DetectionService:
    """The service that `create_app` built."""
    return cast(DetectionService, request.app.state.service)


async def require_key(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    header: Annotated[str | None, Security(_header)],
) -> None:
    """Refuse a caller without a key of the server's; every key is compared, each in constant time."""
    keys = service_of(request).settings.api_keys
    given = [text.encode("latin-1") for text in (bearer.credentials if bearer else None, header) if text]
    matches = [
        hmac.compare_digest(key.get_secret_value().encode(), candidate) for key in keys for candidate in given
    ]
    if keys and not any(matches):
        wrong = "this key is not valid" if given else "no key was sent"
        raise Unauthorized(f"{wrong}; send one as `Authorization: Bearer KEY` or `X-API-Key: KEY`")

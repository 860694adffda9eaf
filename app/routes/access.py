"""What every route needs of the app: the service, and the check of the caller's key."""

from typing import Annotated, cast

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from app.keys import check_key
from app.service import DetectionService

_bearer = HTTPBearer(auto_error=False, description="One of the keys in RCNN_API_KEYS, if the server has any.")
_header = APIKeyHeader(
    name="X-API-Key", auto_error=False, description="The same key, for clients without Bearer."
)


def service_of(request: Request) -> DetectionService:
    """The service that `create_app` built."""
    return cast(DetectionService, request.app.state.service)


async def offered_keys(
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    header: Annotated[str | None, Security(_header)],
) -> tuple[str, ...]:
    """The keys in the request's headers."""
    return tuple(text for text in (bearer.credentials if bearer else None, header) if text)


OfferedKeys = Annotated[tuple[str, ...], Depends(offered_keys)]


async def require_key(request: Request, offered: OfferedKeys) -> None:
    """Refuse a caller without a key of the server's in its headers."""
    check_key(service_of(request), offered)

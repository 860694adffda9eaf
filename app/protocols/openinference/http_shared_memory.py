"""Triton's shared memory over HTTP: no region is registered, and a client that asks for one is told why."""

from typing import Any

from fastapi import Request
from starlette.convertors import StringConvertor, register_url_convertor

from app.errors import InvalidParameter, NotFound
from app.protocols.openinference.http import DIALECT, TAG
from app.protocols.openinference.inference import NO_SHARED_MEMORY
from app.schemas.limits import MAX_QUOTED
from app.transport.router import Router

router = Router(TAG, dialect=DIALECT, prefix="/v2", operations="oip_")


class _Kind(StringConvertor):
    """Whose memory it is."""

    regex = "system|cuda"


register_url_convertor("memory", _Kind())


@router.get("/{kind:memory}sharedmemory/status", include_in_schema=False)
async def list_regions(kind: str) -> list[dict[str, Any]]:
    """No region."""
    return []


@router.get("/{kind:memory}sharedmemory/region/{name}/status", include_in_schema=False)
async def region_status(kind: str, name: str) -> None:
    """404: no region has a name."""
    raise NotFound(f"no region {name[:MAX_QUOTED]!r} here; {NO_SHARED_MEMORY}")


@router.post("/{kind:memory}sharedmemory/region/{name}/register", include_in_schema=False)
async def register_region(kind: str, name: str) -> None:
    """Refused."""
    raise InvalidParameter(NO_SHARED_MEMORY)


@router.post("/{kind:memory}sharedmemory/unregister", include_in_schema=False)
@router.post("/{kind:memory}sharedmemory/region/{name}/unregister", include_in_schema=False)
async def unregister(request: Request) -> dict[str, Any]:
    """Nothing to do, as for every region that is not registered: clients unregister all when they begin."""
    return {}

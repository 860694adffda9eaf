"""Triton's system shared memory over HTTP: a client on this machine registers regions and forgets them."""

from dataclasses import asdict
from typing import Any

from fastapi import Request
from pydantic import BaseModel, Field
from starlette.convertors import StringConvertor, register_url_convertor

from app.protocols.openinference.http import DIALECT, TAG, shared_memory_of
from app.protocols.openinference.shared_memory import Region, SharedMemory, available
from app.schemas.limits import MAX_NAME
from app.transport.body import read_within
from app.transport.json_body import read_json
from app.transport.router import Router

SECONDS = 5.0  # for a body of three values
USAGE = '{"key": "/frames", "offset": 0, "byte_size": 786432}'

router = Router(TAG, dialect=DIALECT, prefix="/v2", operations="oip_")


class _Kind(StringConvertor):
    """Whose memory it is."""

    regex = "system|cuda"


register_url_convertor("memory", _Kind())


class Registration(BaseModel):
    """A request to register a region."""

    key: str = Field(max_length=MAX_NAME)
    offset: int = Field(default=0, ge=0, lt=2**63)
    byte_size: int = Field(ge=0, lt=2**63)


@router.get("/{kind:memory}sharedmemory/status", include_in_schema=False)
async def list_regions(request: Request, kind: str) -> list[dict[str, Any]]:
    """The regions of all clients; none for a client elsewhere."""
    return _described(_memory(request, kind))


@router.get("/{kind:memory}sharedmemory/region/{name}/status", include_in_schema=False)
async def region_status(request: Request, kind: str, name: str) -> list[dict[str, Any]]:
    """One region; 404 for a name that is not registered."""
    return _described(available(_memory(request, kind)), name)


@router.post("/{kind:memory}sharedmemory/region/{name}/register", include_in_schema=False)
async def register_region(request: Request, kind: str, name: str) -> dict[str, Any]:
    """Register a part of a file; 422 where shared memory is off, for a client elsewhere and for a GPU's."""
    memory = available(_memory(request, kind))
    body = await read_within(SECONDS, request.body())
    sent = await read_json(body, Registration, USAGE)
    memory.register(Region(name, sent.key, sent.offset, sent.byte_size))
    return {}


@router.post("/{kind:memory}sharedmemory/unregister", include_in_schema=False)
@router.post("/{kind:memory}sharedmemory/region/{name}/unregister", include_in_schema=False)
async def unregister(request: Request, kind: str, name: str = "") -> dict[str, Any]:
    """Forget a region, or all: clients do so when they begin, also where there is none."""
    if (memory := _memory(request, kind)) is not None:
        memory.unregister(name)
    return {}


def _memory(request: Request, kind: str) -> SharedMemory | None:
    """That of the client; None for a GPU's, which is not served."""
    return shared_memory_of(request) if kind == "system" else None


def _described(memory: SharedMemory | None, name: str = "") -> list[dict[str, Any]]:
    return [asdict(region) for region in memory.status(name)] if memory else []

"""Triton's model repository over HTTP."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from app.protocols.openinference import repository as catalogue
from app.protocols.openinference.http import DIALECT
from app.transport.access import require_admin
from app.transport.body import parse_json
from app.transport.context import service_of
from app.transport.openapi import EVERYWHERE, OF_LOAD, protocol
from app.transport.openapi_examples import VERSION

INDEX = [
    {"name": "shapes", "version": VERSION, "state": catalogue.READY, "reason": ""},
    {"name": "blood-cells", "version": "", "state": catalogue.UNAVAILABLE, "reason": "not loaded"},
]


repository = APIRouter(
    tags=["Open Inference Protocol"], prefix="/v2/repository", dependencies=[Depends(require_admin)]
)


index = APIRouter(tags=["Open Inference Protocol"], prefix="/v2/repository")


class RepositoryRequest(BaseModel):
    """A request of the repository extension."""

    ready: bool = Field(default=False, description="Of the index: only what serves.")
    parameters: dict[str, Any] = Field(
        default={}, description="`unload_dependents` of an unload; no other, for a model is as its card says."
    )


BODY = {
    "required": False,
    "content": {
        "application/json": {"schema": RepositoryRequest.model_json_schema(), "example": {"parameters": {}}}
    },
}


@index.post(
    "/index",
    summary="The models",
    responses=protocol(DIALECT, INDEX, "load_failed", "invalid_parameter", "loading", "failing", *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
async def repository_index(request: Request) -> list[dict[str, str]]:
    """Every card of the catalogue; READY is the one that serves."""
    asked = await _read(request)
    return [asdict(one) for one in await catalogue.index(service_of(request), asked.ready)]


@repository.post(
    "/models/{name}/load",
    summary="Serve another model, as Triton's clients ask for it",
    responses=protocol(DIALECT, {}, "invalid_parameter", *OF_LOAD),
    openapi_extra={"requestBody": BODY},
)
async def repository_load(request: Request, name: str) -> dict[str, str]:
    """As POST /models/{name}/load; `config` and files in its parameters are refused."""
    await catalogue.load(service_of(request), name, (await _read(request)).parameters)
    return {}


@repository.post(
    "/models/{name}/unload",
    summary="What Triton's clients ask for before or after a load",
    responses=protocol(DIALECT, {}, "invalid_parameter", *OF_LOAD),
    openapi_extra={"requestBody": BODY},
)
async def repository_unload(request: Request, name: str) -> dict[str, str]:
    """200 for a model that does not serve: it is unloaded already; 409 for the one that does."""
    catalogue.refuse_parameters((await _read(request)).parameters, ("unload_dependents",))
    await catalogue.unload(service_of(request), name)
    return {}


async def _read(request: Request) -> RepositoryRequest:
    """What was asked; an empty body asks for nothing in particular."""
    body = await request.body()
    return parse_json(body, RepositoryRequest, '{"parameters": {}}') if body.strip() else RepositoryRequest()

"""Triton's model repository over HTTP."""

from dataclasses import asdict
from typing import Any

from fastapi import Request
from pydantic import BaseModel, Field

from app.protocols.openinference import repository as catalogue
from app.protocols.openinference.http import DIALECT, TAG
from app.schemas.limits import MAX_TENSOR_PARAMETERS
from app.transport.access import require_admin
from app.transport.context import service_of
from app.transport.json_body import read_json
from app.transport.openapi import EVERYWHERE, OF_LOAD, json_body, protocol
from app.transport.openapi_examples import VERSION
from app.transport.router import Router

INDEX = [
    {"name": "shapes", "version": VERSION, "state": catalogue.READY, "reason": ""},
    {"name": "blood-cells", "version": "", "state": catalogue.UNAVAILABLE, "reason": "not loaded"},
]

index = Router(TAG, dialect=DIALECT, prefix="/v2/repository", operations="triton_")
repository = Router(TAG, dialect=DIALECT, access=require_admin, prefix="/v2/repository", operations="triton_")


class RepositoryRequest(BaseModel):
    """A request of the repository extension."""

    ready: bool = Field(default=False, description="Of the index: list the models that serve only.")
    parameters: dict[str, Any] = Field(
        default={},
        max_length=MAX_TENSOR_PARAMETERS,
        description="`unload_dependents` of an unload; no other, because a model is configured by its card.",
    )


BODY = {**json_body(RepositoryRequest, "Triton", {"parameters": {}}), "required": False}


@index.post(
    "/index",
    summary="List the models (Triton)",
    responses=protocol(DIALECT, INDEX, "load_failed", "invalid_parameter", "loading", "failing", *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
async def list_models(request: Request) -> list[dict[str, str]]:
    """Every card of the catalogue; the models that serve are READY."""
    only_ready = (await _read(request)).ready
    return [asdict(entry) for entry in await catalogue.index(service_of(request), only_ready)]


@repository.post(
    "/models/{name}/load",
    summary="Load a model (Triton)",
    responses=protocol(DIALECT, {}, "invalid_parameter", *OF_LOAD),
    openapi_extra={"requestBody": BODY},
)
async def load_model(request: Request, name: str) -> dict[str, str]:
    """As POST /models/{name}/load; `config` and files in its parameters are refused."""
    await catalogue.load(service_of(request), name, (await _read(request)).parameters)
    return {}


@repository.post(
    "/models/{name}/unload",
    summary="Unload a model (Triton)",
    responses=protocol(DIALECT, {}, "invalid_parameter", *OF_LOAD),
    openapi_extra={"requestBody": BODY},
)
async def unload_model(request: Request, name: str) -> dict[str, str]:
    """200, also for a model that is not loaded; 409 for the default one, which cannot be unloaded."""
    catalogue.refuse_parameters((await _read(request)).parameters, ("unload_dependents",))
    await catalogue.unload(service_of(request), name)
    return {}


async def _read(request: Request) -> RepositoryRequest:
    """The request; an empty body stands for its defaults."""
    body = await request.body()
    if not body.strip():
        return RepositoryRequest()
    return await read_json(body, RepositoryRequest, '{"parameters": {}}')

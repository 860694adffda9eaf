"""Another model in place of the one that serves: POST /models/{name}/load, and as Triton has it.

A key of RCNN_ADMIN_KEYS goes in the headers, for an address ends up in logs.
"""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from app import repository as models
from app.routes.access import require_admin, service_of
from app.routes.documents import EVERYWHERE, problems, protocol
from app.routes.examples import VERSION
from app.routes.openinference import DIALECT
from app.routes.requests import parse_json
from app.schemas import Wire

LOADED = {
    "model": "shapes",
    "model_version": VERSION,
    "previous": {"model": "blood-cells", "model_version": "9c1185a5c5e9"},
    "seconds": 1.25,
}
REFUSALS = (
    "forbidden",
    "not_found",
    "conflict",
    "load_failed",
    "loading",
    "draining",
    "failing",
    *EVERYWHERE,
)
INDEX = [
    {"name": "shapes", "version": VERSION, "state": models.READY, "reason": ""},
    {"name": "blood-cells", "version": "", "state": models.UNAVAILABLE, "reason": "not loaded"},
]

router = APIRouter(tags=["operation"], dependencies=[Depends(require_admin)])
repository = APIRouter(
    tags=["Open Inference Protocol"], prefix="/v2/repository", dependencies=[Depends(require_admin)]
)
index = APIRouter(tags=["Open Inference Protocol"], prefix="/v2/repository")


class ModelIdentity(Wire):
    """A model and its version."""

    model: str
    model_version: str


class ModelLoaded(ModelIdentity):
    """What serves now, and what did before."""

    previous: ModelIdentity
    seconds: float = Field(description="that the load and the warm-up took")


class Asked(BaseModel):
    """A request of the repository extension."""

    ready: bool = Field(default=False, description="Of the index: only what serves.")
    parameters: dict[str, Any] = Field(
        default={}, description="`unload_dependents` of an unload; no other, for a model is as its card says."
    )


BODY = {
    "required": False,
    "content": {"application/json": {"schema": Asked.model_json_schema(), "example": {"parameters": {}}}},
}


@router.post(
    "/models/{name}/load",
    summary="Serve another model, without a gap",
    responses={200: {"content": {"application/json": {"example": LOADED}}}, **problems(*REFUSALS)},
)
async def load(request: Request, name: str) -> ModelLoaded:
    """Loads it beside the one that serves, warms it up and switches; if that fails, all stays as it was.

    A name of GET /models, or the loaded one's own to read its card and weights again.
    """
    swapped = await service_of(request).load_model(name)
    return ModelLoaded(
        model=swapped.now.name,
        model_version=swapped.now.version,
        previous=ModelIdentity(model=swapped.before.name, model_version=swapped.before.version),
        seconds=round(swapped.seconds, 3),
    )


@index.post(
    "/index",
    summary="The models",
    responses=protocol(DIALECT, INDEX, "load_failed", "invalid_parameter", "loading", "failing", *EVERYWHERE),
    openapi_extra={"requestBody": BODY},
)
async def repository_index(request: Request) -> list[dict[str, str]]:
    """Every card of the catalogue; READY is the one that serves."""
    asked = await _read(request)
    return [asdict(one) for one in await models.index(service_of(request), asked.ready)]


@repository.post(
    "/models/{name}/load",
    summary="Serve another model, as Triton's clients ask for it",
    responses=protocol(DIALECT, {}, "invalid_parameter", *REFUSALS),
    openapi_extra={"requestBody": BODY},
)
async def repository_load(request: Request, name: str) -> dict[str, str]:
    """As POST /models/{name}/load; `config` and files in its parameters are refused."""
    await models.load(service_of(request), name, (await _read(request)).parameters)
    return {}


@repository.post(
    "/models/{name}/unload",
    summary="What Triton's clients ask for before or after a load",
    responses=protocol(DIALECT, {}, "invalid_parameter", *REFUSALS),
    openapi_extra={"requestBody": BODY},
)
async def repository_unload(request: Request, name: str) -> dict[str, str]:
    """200 for a model that does not serve: it is unloaded already; 409 for the one that does."""
    models.refuse_parameters((await _read(request)).parameters, ("unload_dependents",))
    await models.unload(service_of(request), name)
    return {}


async def _read(request: Request) -> Asked:
    """What was asked; an empty body asks for nothing in particular."""
    body = await request.body()
    return parse_json(body, Asked, '{"parameters": {}}') if body.strip() else Asked()

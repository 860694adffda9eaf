"""Roboflow's routes for the server and its models: /info and /model/registry, add, remove, clear.

A load needs one of RCNN_ADMIN_KEYS, in a header or as `api_key` in the body, as `inference_sdk` sends it.
"""

from typing import Annotated, Any, TypeVar
from uuid import UUID, uuid5

from fastapi import Query, Request
from pydantic import BaseModel, Field

from app import version
from app.errors import Conflict, InvalidParameter, UnsupportedMediaType
from app.protocols.roboflow.inference import ALSO, DIALECT, Name
from app.serving.service import DetectionService
from app.transport.access import OfferedKeys, check_admin, check_key_of
from app.transport.body import read_within
from app.transport.context import service_of
from app.transport.json_body import read_json
from app.transport.middleware.body_limit import body_count
from app.transport.openapi import EVERYWHERE, OF_LOAD, json_body, protocol
from app.transport.router import Router

SECONDS = 5.0  # for a body without an image
SERVER = UUID("6f1c0c3f-4f5e-4a0e-9c6a-2b1d8e7f0a1b")  # the name space of servers' ids
USAGE = '{"model_id": "NAME"}'
INFO = {"name": "rcnn-serve", "version": "0.1.0", "uuid": str(SERVER)}
REGISTRY = {
    "models": [
        {
            "model_id": "coco-r50-fpn",
            "task_type": "object-detection",
            "batch_size": None,
            "input_width": None,
            "input_height": None,
        }
    ]
}
# Keys may be in the query or the body: the routes check them themselves.
registry = Router("Roboflow", dialect=DIALECT, access=None, operations="roboflow_")
LOAD = protocol(DIALECT, REGISTRY, "invalid_parameter", *OF_LOAD)


class Clearing(BaseModel):
    """A request about models; other keys are for Roboflow's own service and ignored."""

    api_key: Name | None = None


class ModelChoice(Clearing):
    """A request for one model."""

    model_id: Name = Field(description="Name of the model, or an alias.")


C = TypeVar("C", bound=Clearing)


@registry.get("/info", summary="Name and version of the server", responses=protocol(DIALECT, INFO))
async def get_info() -> dict[str, str]:
    """The same id as long as the process lives at this version."""
    return {"name": "rcnn-serve", "version": version(), "uuid": str(uuid5(SERVER, version()))}


@registry.get(
    "/model/registry", summary="List the models", responses=protocol(DIALECT, REGISTRY, *EVERYWHERE)
)
async def list_models(
    request: Request, header_keys: OfferedKeys, api_key: Annotated[str | None, Query()] = None
) -> dict[str, Any]:
    """The names of the loaded models, empty until they are loaded; `inference_sdk` calls this first."""
    check_key_of(request, (*header_keys, api_key) if api_key else header_keys, ALSO)
    return _registry(service_of(request))


@registry.post(
    "/model/add",
    summary="Load a model (Roboflow)",
    responses=LOAD,
    openapi_extra={"requestBody": json_body(ModelChoice, "Roboflow", {"model_id": "coco-r50-fpn"})},
)
async def add_model(request: Request, keys: OfferedKeys) -> dict[str, Any]:
    """Load the model beside the others, if it is not loaded; see POST /models/{name}/load."""
    service, choice = service_of(request), await _read(request, keys, ModelChoice)
    if service.models.find(choice.model_id) is None:
        await service.load_model(choice.model_id)
    return _registry(service)


@registry.post(
    "/model/remove",
    summary="Unload a model (Roboflow)",
    responses=LOAD,
    openapi_extra={"requestBody": json_body(ModelChoice, "Roboflow", {"model_id": "coco-r50-fpn"})},
)
async def remove_model(request: Request, keys: OfferedKeys) -> dict[str, Any]:
    """Unload the model; 404 for one that is not loaded, 409 for the default one."""
    service, choice = service_of(request), await _read(request, keys, ModelChoice)
    service.unload_model(choice.model_id)
    return _registry(service)


@registry.post("/model/clear", summary="Unload all models (Roboflow)", responses=LOAD)
async def clear_models(request: Request, keys: OfferedKeys) -> dict[str, Any]:
    """Unload all models that RCNN_MODEL does not name, but for the default one."""
    service = service_of(request)
    if await read_within(SECONDS, request.body()):
        await _read(request, keys, Clearing)
    else:
        _check_admin(request, keys)
    for name in [name for name in service.models.ready if name not in service.loads.kept]:
        try:
            service.unload_model(name)
        except Conflict:  # the default one
            continue
    return _registry(service)


def _registry(service: DetectionService) -> dict[str, Any]:
    unknown = {"batch_size": None, "input_width": None, "input_height": None}
    return {
        "models": [
            {"model_id": name, "task_type": "object-detection", **unknown} for name in service.models.ready
        ]
    }


async def _read(request: Request, keys: tuple[str, ...], kind: type[C]) -> C:
    """The body, once it or the headers have shown a key that may load models."""
    body = await read_within(SECONDS, request.body())
    try:
        choice = await read_json(body, kind, USAGE)
    except (UnsupportedMediaType, InvalidParameter):
        _check_admin(request, keys)
        raise
    _check_admin(request, (*keys, choice.api_key) if choice.api_key else keys)
    return choice


def _check_admin(request: Request, keys: tuple[str, ...]) -> None:
    check_admin(service_of(request), keys)
    body_count(request).show_key()

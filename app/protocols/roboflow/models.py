"""Roboflow's routes for the server and its models: /info and /model/registry, add, remove, clear.

A load needs one of RCNN_ADMIN_KEYS, in a header or as `api_key` in the body, as `inference_sdk` sends it.
Before its first inference that client looks for the name, as it was given, in /model/registry, and else
sends it to /model/add: every spelling of a loaded model is listed.
"""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar
from uuid import UUID, uuid5

from fastapi import Query, Request
from pydantic import BaseModel, Field

from app import version
from app.errors import Conflict, Forbidden, InvalidParameter, Unauthorized, UnsupportedMediaType
from app.protocols.roboflow.inference import ALSO, DIALECT, Name
from app.serving.model import ANY_VERSION
from app.serving.service import DetectionService
from app.transport.access import OfferedKeys, check_admin, check_key_of, shows_key
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
Keys = tuple[str, ...]
Check = Callable[[Request, Keys, C], None]
"""Raises where these keys do not allow what the body asks for."""


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
    """The names and aliases of the loaded models, also with their versions; empty until they are loaded."""
    check_key_of(request, (*header_keys, api_key) if api_key else header_keys, ALSO)
    return _registry(service_of(request))


@registry.post(
    "/model/add",
    summary="Load a model (Roboflow)",
    responses=LOAD,
    openapi_extra={"requestBody": json_body(ModelChoice, "Roboflow", {"model_id": "coco-r50-fpn"})},
)
async def add_model(request: Request, keys: OfferedKeys) -> dict[str, Any]:
    """Load the model, if it is not loaded; without an admin key 404 for one that is not."""
    service, choice = service_of(request), await _read(request, keys, ModelChoice, _check_add)
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
            {"model_id": name, "task_type": "object-detection", **unknown} for name in _spellings(service)
        ]
    }


def _spellings(service: DetectionService) -> list[str]:
    """What the loaded models may be called: NAME and its aliases, NAME/1, NAME/VERSION."""
    loaded = service.models.ready
    aliases = [alias for alias, name in service.models.aliases.items() if name in loaded]
    versions = [f"{name}/{version}" for name in loaded for version in (ANY_VERSION, loaded[name].version)]
    return list(dict.fromkeys((*loaded, *aliases, *versions)))


async def _read(request: Request, keys: Keys, kind: type[C], check: Check[C] | None = None) -> C:
    """The body, once it or the headers have shown a key that may load models, or `check` lets it pass."""
    body = await read_within(SECONDS, request.body())
    try:
        choice = await read_json(body, kind, USAGE)
    except (UnsupportedMediaType, InvalidParameter):
        _check_admin(request, keys)
        raise
    keys = (*keys, choice.api_key) if choice.api_key else keys
    if check is None:
        _check_admin(request, keys)
    else:
        check(request, keys, choice)
    return choice


def _check_add(request: Request, keys: Keys, choice: ModelChoice) -> None:
    """As `_check_admin`, but a user with another key is told whether the model is loaded."""
    service = service_of(request)
    try:
        _check_admin(request, keys)
    except (Forbidden, Unauthorized) as error:
        if not shows_key(request, keys):
            raise
        service.ready_model()
        if service.models.find(choice.model_id) is None:
            hint = "to load one of GET /models, send one of RCNN_ADMIN_KEYS"
            raise service.models.not_loaded(choice.model_id, hint) from error


def _check_admin(request: Request, keys: Keys) -> None:
    check_admin(service_of(request), keys)
    body_count(request).show_key()

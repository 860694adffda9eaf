"""GET /models, GET /labels, POST /models/NAME/load: the catalogue, and loading another model."""

import time
from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field

from app.schemas.options import DetectOptions, Wire
from app.schemas.status import ModelEntry, ModelList, ModelStateName
from app.serving.models.release import Identity
from app.serving.models.states import model_states
from app.serving.service import DetectionService
from app.transport.access import require_admin
from app.transport.context import pin_model, service_of
from app.transport.openapi import EVERYWHERE, OF_LOAD, OF_MODEL, problems
from app.transport.openapi_examples import LABELS, MODELS, VERSION, shown
from app.transport.query import ModelQuery
from app.transport.router import Router
from models.zoo.cards import Card
from models.zoo.catalogue import catalogue
from models.zoo.sections import SECTIONS

router = Router("catalogue", "The models of this server, and the labels of the loaded one.")
loads = Router("operation", access=require_admin)

LOADED = {
    "model": "shapes",
    "model_version": VERSION,
    "previous": {"model": "blood-cells", "model_version": "9c1185a5c5e9"},
    "seconds": 1.25,
}


UNLOADED = {"model": "blood-cells", "model_version": "9c1185a5c5e9"}

AsDefault = Annotated[bool, Query(description="Whether it answers requests that name no model, too.")]


@router.get("/models", summary="List the models", responses={200: shown(MODELS), **problems(*EVERYWHERE)})
def list_models(request: Request, response: Response) -> ModelList:
    """Every model card of this server, and which models are loaded."""
    response.headers["Vary"] = "Accept"  # a browser gets a page
    service = service_of(request)
    serving = service.models.serving
    loaded = serving.name if serving else None
    cards = catalogue(service.settings.model_dir)  # reads files: not an async def, so it runs in a thread
    # A card given by its path is in no folder.
    cards |= {name: model.card for name, model in service.models.ready.items()}
    states = {one.name: one.state for one in model_states(service.models, service.loads)}
    entries = [_entry(service, card, states.get(name)) for name, card in cards.items()]
    version = serving.version if serving else None
    loading = service.loads.loading
    return ModelList(loaded=loaded, loaded_version=version, loading=loading, models=entries)


def _entry(service: DetectionService, card: Card, state: ModelStateName | None) -> ModelEntry:
    model, usage = service.models.ready.get(card.name), service.models.usage(card.name)
    used = time.monotonic() - usage.last if usage.requests else None
    return ModelEntry(
        loaded=model is not None,
        state=state,
        memory_bytes=model.memory_bytes if model else None,
        last_used_seconds=None if used is None else round(used, 3),
        precision_reason=model.detector.precision_choice.reason if model else None,
        requests=usage.requests,
        **{**card.model_dump(mode="json", exclude=set(SECTIONS)), "weights": card.public_weights},
    )


@router.get(
    "/labels",
    summary="List the labels",
    responses={200: shown(LABELS), **problems(*OF_MODEL, *EVERYWHERE, "loading", "failing", "overloaded")},
)
async def list_labels(request: Request, model: ModelQuery = None) -> dict[int, str]:
    """Label id to name for a model, without the background and the gaps in COCO's numbering."""
    deadline = service_of(request).deadline_of(DetectOptions(), request.state.started)
    return dict((await pin_model(request, model, deadline=deadline)).labels)


class ModelIdentity(Wire):
    """A model and its version."""

    model: str
    model_version: str


class ModelLoaded(ModelIdentity):
    """The model that was loaded, and the one that it replaced."""

    previous: ModelIdentity | None = Field(description="null where it was loaded beside the others")
    seconds: float = Field(description="duration of the load and the warm-up")


@loads.post(
    "/models/{name}/load",
    summary="Load a model",
    responses={200: {"content": {"application/json": {"example": LOADED}}}, **problems(*OF_LOAD)},
)
async def load_model(request: Request, name: str, default: AsDefault = False) -> ModelLoaded:
    """Load the model, warm it up, then let it serve; if that fails, everything stays as it was.

    `name`: one of GET /models; a loaded model's own name reads its card and weights again. Where
    RCNN_MAX_LOADED_MODELS is one, it replaces the model that serves.
    """
    result = await service_of(request).load_model(name, default=default)
    return ModelLoaded(
        model=result.current.name,
        model_version=result.current.version,
        previous=_identity(result.previous) if result.previous else None,
        seconds=round(result.seconds, 3),
    )


@loads.post(
    "/models/{name}/unload",
    summary="Unload a model",
    responses={200: {"content": {"application/json": {"example": UNLOADED}}}, **problems(*OF_LOAD)},
)
async def unload_model(request: Request, name: str) -> ModelIdentity:
    """Give the model no new requests; its memory is free after its last response. 409 for the default one."""
    return _identity(service_of(request).unload_model(name))


def _identity(identity: Identity) -> ModelIdentity:
    return ModelIdentity(model=identity.name, model_version=identity.version)

"""GET /models, GET /labels, POST /models/NAME/load: the catalogue, and loading another model."""

from fastapi import Request
from pydantic import Field

from app.schemas.options import Wire
from app.schemas.status import ModelEntry, ModelList
from app.transport.access import require_admin
from app.transport.context import service_of
from app.transport.openapi import EVERYWHERE, OF_LOAD, problems
from app.transport.openapi_examples import LABELS, MODELS, VERSION, shown
from app.transport.router import Router
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


@router.get("/models", summary="List the models", responses={200: shown(MODELS), **problems(*EVERYWHERE)})
def list_models(request: Request) -> ModelList:
    """Every model card of this server, and which model is loaded."""
    service = service_of(request)
    serving = service.models.serving
    loaded = serving.name if serving else None
    cards = catalogue(service.settings.model_dir)  # reads files: not an async def, so it runs in a thread
    if serving:
        cards[serving.name] = serving.card  # a card given by its path is in no folder
    entries = [
        ModelEntry(loaded=name == loaded, **card.model_dump(mode="json", exclude=set(SECTIONS)))
        for name, card in cards.items()
    ]
    version = serving.version if serving else None
    loading = service.swapper.loading
    return ModelList(loaded=loaded, loaded_version=version, loading=loading, models=entries)


@router.get(
    "/labels",
    summary="List the labels",
    responses={200: shown(LABELS), **problems(*EVERYWHERE, "loading", "failing")},
)
async def list_labels(request: Request) -> dict[int, str]:
    """Label id to name for the loaded model, without the background and the gaps in COCO's numbering."""
    service = service_of(request)
    return dict(service.ready_model().labels)


class ModelIdentity(Wire):
    """A model and its version."""

    model: str
    model_version: str


class ModelLoaded(ModelIdentity):
    """The model that serves now, and the one before."""

    previous: ModelIdentity
    seconds: float = Field(description="duration of the load and the warm-up")


@loads.post(
    "/models/{name}/load",
    summary="Load another model",
    responses={200: {"content": {"application/json": {"example": LOADED}}}, **problems(*OF_LOAD)},
)
async def load_model(request: Request, name: str) -> ModelLoaded:
    """Load the model, warm it up, then switch to it; if that fails, the model before continues to serve.

    `name`: one of GET /models; the loaded model's own name reads its card and weights again.
    """
    result = await service_of(request).load_model(name)
    return ModelLoaded(
        model=result.current.name,
        model_version=result.current.version,
        previous=ModelIdentity(model=result.previous.name, model_version=result.previous.version),
        seconds=round(result.seconds, 3),
    )

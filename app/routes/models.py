"""GET /models and GET /labels: what can be served, and what is."""

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from app.schemas.options import Wire
from app.schemas.status import ModelEntry, ModelList
from app.transport.access import require_admin
from app.transport.context import service_of
from app.transport.openapi import EVERYWHERE, OF_LOAD, problems
from app.transport.openapi_examples import LABELS, MODELS, VERSION, shown
from models.zoo.catalogue import catalogue

router = APIRouter(tags=["catalogue"])


@router.get("/models", summary="The catalogue", responses={200: shown(MODELS), **problems(*EVERYWHERE)})
def models(request: Request) -> ModelList:
    """Every model card this server knows, and which one is loaded."""
    service = service_of(request)
    serving = service.models.serving
    loaded = serving.name if serving else None
    cards = catalogue(
        service.settings.model_dir
    )  # read afresh, in Starlette's thread pool: this is no async def
    if serving:
        cards[serving.name] = serving.card  # a card given by its path is in no folder
    entries = [
        ModelEntry(loaded=name == loaded, **card.model_dump(mode="json")) for name, card in cards.items()
    ]
    version = serving.version if serving else None
    loading = service.swapper.loading
    return ModelList(loaded=loaded, loaded_version=version, loading=loading, models=entries)


@router.get(
    "/labels",
    summary="Label ids and their names",
    responses={200: shown(LABELS), **problems(*EVERYWHERE, "loading", "failing")},
)
async def labels(request: Request) -> dict[int, str]:
    """Id to name for the loaded model; without the background and the gaps in COCO's numbering."""
    service = service_of(request)
    return dict(service.ready_model().labels)


LOADED = {
    "model": "shapes",
    "model_version": VERSION,
    "previous": {"model": "blood-cells", "model_version": "9c1185a5c5e9"},
    "seconds": 1.25,
}

loads = APIRouter(tags=["operation"], dependencies=[Depends(require_admin)])


class ModelIdentity(Wire):
    """A model and its version."""

    model: str
    model_version: str


class ModelLoaded(ModelIdentity):
    """What serves now, and what did before."""

    previous: ModelIdentity
    seconds: float = Field(description="that the load and the warm-up took")


@loads.post(
    "/models/{name}/load",
    summary="Serve another model, without a gap",
    responses={200: {"content": {"application/json": {"example": LOADED}}}, **problems(*OF_LOAD)},
)
async def load(request: Request, name: str) -> ModelLoaded:
    """Loads it beside the one that serves, warms it up and switches; if that fails, all stays as it was.

    A name of GET /models, or the loaded one's own to read its card and weights again.
    """
    result = await service_of(request).load_model(name)
    return ModelLoaded(
        model=result.current.name,
        model_version=result.current.version,
        previous=ModelIdentity(model=result.previous.name, model_version=result.previous.version),
        seconds=round(result.seconds, 3),
    )

"""GET /models and GET /labels: what can be served, and what is."""

from fastapi import APIRouter, Request

from app.routes.access import service_of
from app.routes.documents import EVERYWHERE, problems
from app.routes.examples import LABELS, MODELS, shown
from app.state_schemas import ModelEntry, ModelList
from models.zoo.catalogue import catalogue

router = APIRouter(tags=["catalogue"])


@router.get("/models", summary="The catalogue", responses={200: shown(MODELS), **problems(*EVERYWHERE)})
def models(request: Request) -> ModelList:
    """Every model card this server knows, and which one is loaded."""
    service = service_of(request)
    detector = service.model.loaded
    loaded = detector.card.name if detector else None
    cards = catalogue(
        service.settings.model_dir
    )  # read afresh, in Starlette's thread pool: this is no async def
    if detector:
        cards[detector.card.name] = detector.card  # a card given by its path is in no folder
    entries = [
        ModelEntry(loaded=name == loaded, **card.model_dump(mode="json")) for name, card in cards.items()
    ]
    version = detector.version if detector else None
    loading = service.swap.loading
    return ModelList(loaded=loaded, loaded_version=version, loading=loading, models=entries)


@router.get(
    "/labels",
    summary="Label ids and their names",
    responses={200: shown(LABELS), **problems(*EVERYWHERE, "loading", "failing")},
)
async def labels(request: Request) -> dict[int, str]:
    """Id to name for the loaded model; without the background and the gaps in COCO's numbering."""
    service = service_of(request)
    if service.model.loaded is None:
        service.refuse_early()
    return dict(service.model.current.labels)

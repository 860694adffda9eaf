"""Triton's statistics extension over HTTP, as `tritonclient.http` and Model Analyzer read it."""

from typing import Any

from fastapi import Request

from app.protocols.openinference.http import DIALECT, OF_METADATA, TAG
from app.protocols.openinference.statistics import model_statistics
from app.transport.context import service_of
from app.transport.openapi import EVERYWHERE, protocol
from app.transport.openapi_examples import VERSION
from app.transport.router import Router

DONE = {"count": 12, "ns": 492_000_000}
EXAMPLE = {
    "model_stats": [
        {
            "name": "coco-r50-fpn",
            "version": VERSION,
            "last_inference": 1_790_000_000_000,
            "inference_count": 12,
            "execution_count": 5,
            "inference_stats": {"success": DONE, "fail": {"count": 0, "ns": 0}, "compute_infer": DONE},
            "batch_stats": [{"batch_size": 4, "compute_infer": DONE}],
        }
    ]
}

# Before the routes of models by name: no model is called `stats`.
router = Router(TAG, dialect=DIALECT, prefix="/v2/models", operations="triton_")


@router.get(
    "/stats",
    summary="Statistics of all models (Triton)",
    responses=protocol(DIALECT, EXAMPLE, *EVERYWHERE),
)
async def all_statistics(request: Request) -> dict[str, Any]:
    """Of every loaded model, since it was loaded; empty until one is."""
    return model_statistics(service_of(request))


@router.get(
    "/{name}/stats",
    summary="Statistics of a model (Triton)",
    responses=protocol(DIALECT, EXAMPLE, *OF_METADATA),
)
@router.get("/{name}/versions/{version}/stats", include_in_schema=False)
async def statistics(request: Request, name: str, version: str = "") -> dict[str, Any]:
    """Counts and nanoseconds since the model was loaded; each image counts, over every protocol."""
    return model_statistics(service_of(request), name, version)

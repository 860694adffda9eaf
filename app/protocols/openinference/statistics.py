"""Triton's statistics of models without their transports: counts and nanoseconds since the load."""

from typing import Any

from app.serving.service import DetectionService
from app.serving.statistics import Statistics, Total

NANOSECONDS = 1_000_000_000


def model_statistics(service: DetectionService, name: str = "", version: str = "") -> dict[str, Any]:
    """Of the model, or of all loaded ones without a name; raises UnknownModel."""
    ready = service.models.ready
    found = [service.find_model(name, version)] if name else [ready[one] for one in ready]
    return {"model_stats": [_of(model.name, model.version, model.statistics) for model in found]}


def _of(name: str, version: str, statistics: Statistics) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "last_inference": round(statistics.last * 1000),
        "inference_count": statistics.inferences,
        "execution_count": statistics.executions,
        "inference_stats": {
            "success": _duration(statistics.success),
            "fail": _duration(statistics.fail),
            "queue": _duration(statistics.queue),
            "compute_input": _duration(statistics.decode),
            "compute_infer": _duration(statistics.inference),
            "compute_output": _duration(statistics.postprocess),
        },
        "batch_stats": [
            {"batch_size": size, "compute_infer": _duration(total)}
            for size, total in sorted(statistics.batches.items())
        ],
    }


def _duration(total: Total) -> dict[str, int]:
    return {"count": total.count, "ns": round(total.seconds * NANOSECONDS)}

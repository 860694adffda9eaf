"""The wire types of the service's health, models and samples."""

from typing import Any, Literal

from pydantic import Field

from app.schemas.captures import CaptureBounds
from app.schemas.options import Status, Wire

WHY_PRECISION = "why it runs in its precision"


class DeviceHealth(Wire):
    """One device; a stuck one works again when its call returns, a dead one after a restart."""

    device: str
    state: Literal["working", "stuck", "dead"]
    reason: str | None = Field(description="why it does not work; null if it works")


ModelStateName = Literal["loading", "ready", "unloading", "failed"]


class ModelHealth(Wire):
    """One model of this process; what is not known in its state is null."""

    name: str
    version: str | None
    state: ModelStateName = Field(description="unloading: it answers the requests that it has begun")
    device: str | None
    engine: str | None
    precision: str | None
    precision_reason: str | None = Field(description=WHY_PRECISION)
    reason: str | None = Field(description="why its last load failed")


class Health(Wire):
    """Health of the service; model, device, engine and precision are the default model's, else null."""

    status: Status = Field(description="degraded: the service accepts requests, but not all devices work")
    model: str | None
    model_version: str | None
    loading: str | None = Field(description="the model that is being loaded while others serve")
    device: str | None = Field(description="the first device; `devices` has all of them")
    devices: list[DeviceHealth] = Field(description="all devices; empty until a model is loaded")
    engine: str | None
    precision: str | None
    precision_reason: str | None = Field(description=WHY_PRECISION)
    models: list[ModelHealth] = Field(description="all models of this process, the default first")
    version: str
    queue_depth: int = Field(description="number of images that wait for a device")
    uptime_seconds: float
    fallback_reason: str | None = Field(
        description="why the automatic choice did not load its first model, or why the CPU serves although "
        "the machine has a GPU or its driver; null if neither"
    )
    hint: str | None = Field(
        description="what to do where the demo model serves because no other one is there; null otherwise"
    )
    captures: CaptureBounds | None = Field(
        default=None, description="which images are kept and for how long; null where none is"
    )


class Alive(Wire):
    """The event loop runs."""

    status: Literal["alive"]


class Readiness(Wire):
    """Whether the service accepts requests, and the reason if not."""

    ready: bool
    status: Status
    reason: str | None


class ModelEntry(Wire):
    """One card of the catalogue."""

    name: str
    loaded: bool
    state: ModelStateName | None = Field(description="null for one that is not loaded")
    memory_bytes: int | None = Field(description="what the process, or the first GPU, grew by at its load")
    last_used_seconds: float | None = Field(
        description="since the last request that it began; null: none yet"
    )
    precision_reason: str | None = Field(description=WHY_PRECISION)
    requests: int = Field(description="number of requests that it began, since the start")
    architecture: str
    weights: str
    sha256: str | None
    labels: list[str]
    score_threshold: float
    nms_threshold: float
    max_detections: int
    min_size: int
    max_size: int
    training: dict[str, Any] | None
    accuracy: dict[str, Any] | None = Field(description="the AP that was measured in each precision")
    int8: dict[str, Any] | None


class ModelList(Wire):
    """The catalogue; the default model, null until there is one; and the model that is being loaded."""

    loaded: str | None
    loaded_version: str | None
    loading: str | None
    models: list[ModelEntry]


class Sample(Wire):
    """Paths of a sample image and its ground truth, if it has one, on this server."""

    name: str
    url: str
    truth: str | None


class SampleList(Wire):
    """All samples of this server."""

    samples: list[Sample]

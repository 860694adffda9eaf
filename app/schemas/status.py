"""The wire types of what the service says about itself: its health, its models, its samples."""

from typing import Any, Literal

from pydantic import Field

from app.schemas.options import Status, Wire


class DeviceHealth(Wire):
    """One device; one that is stuck in a call works again when that returns, a dead one after a restart."""

    device: str
    state: Literal["working", "stuck", "dead"]
    reason: str | None = Field(description="why it does not work; null if it does")


class Health(Wire):
    """What runs here and how it fares; model, device, engine, precision are null until there is a model."""

    status: Status = Field(description="degraded: requests are taken, but not all devices work")
    model: str | None
    model_version: str | None
    loading: str | None = Field(description="the model that is being loaded to take its place")
    device: str | None = Field(description="the first device; `devices` has them all")
    devices: list[DeviceHealth] = Field(description="each device; none until there is a model")
    engine: str | None
    precision: str | None
    version: str
    queue_depth: int = Field(description="images that wait for the device")
    uptime_seconds: float
    fallback_reason: str | None = Field(
        description="why the automatic choice did not load its first model; null if it did"
    )


class Alive(Wire):
    """The event loop answers."""

    status: Literal["alive"]


class Readiness(Wire):
    """Whether work is accepted, and if not, why."""

    ready: bool
    status: Status
    reason: str | None


class ModelEntry(Wire):
    """One card of the catalogue."""

    name: str
    loaded: bool
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
    int8: dict[str, Any] | None


class ModelList(Wire):
    """The catalogue, which of it is loaded (null until it is), and which is about to take its place."""

    loaded: str | None
    loaded_version: str | None
    loading: str | None
    models: list[ModelEntry]


class Sample(Wire):
    """A sample image and, where there is one, its ground truth, as paths on this server."""

    name: str
    url: str
    truth: str | None


class SampleList(Wire):
    """Every sample this server has."""

    samples: list[Sample]

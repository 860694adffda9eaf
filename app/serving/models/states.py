"""The models of this process and their states, as /health and /models list them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from app.serving.model import LoadedModel
from app.serving.models.loads import ModelLoads
from app.serving.models.registry import ModelRegistry

State = Literal["loading", "ready", "unloading", "failed"]


@dataclass(frozen=True)
class ModelState:
    """A model by its name, and what is known of it in its state; `reason`: why its last load failed."""

    name: str
    state: State
    version: str | None = None
    device: str | None = None
    engine: str | None = None
    precision: str | None = None
    precision_reason: str | None = None
    reason: str | None = None


def model_states(models: ModelRegistry, loads: ModelLoads) -> list[ModelState]:
    """One for each name: the default first, then the other models that serve, then the rest."""
    found = {state.name: state for state in reversed(list(_all(models, loads)))}
    return list(reversed(found.values()))


def _all(models: ModelRegistry, loads: ModelLoads) -> Iterator[ModelState]:
    """The states, those of the same name by importance."""
    default = models.serving
    ready = [default, *(one for one in models.ready.values() if one is not default)] if default else []
    for model in ready:
        yield _ready(model)
    for name in loads.starting:
        yield ModelState(name, "loading")
    if loads.loading is not None:
        yield ModelState(loads.loading, "loading")
    for old in loads.releases.pending:
        yield ModelState(old.name, "unloading", old.version)
    for name, failed in loads.failures.items():
        yield ModelState(name, "failed", reason=failed.reason)


def _ready(model: LoadedModel) -> ModelState:
    detector = model.detector
    return ModelState(
        model.name,
        "ready",
        model.version,
        detector.device,
        detector.engine_name,
        detector.precision,
        detector.precision_choice.reason,
    )

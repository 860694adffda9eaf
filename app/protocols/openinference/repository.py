"""Triton's model repository extension without its transports: index, load, unload."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from app.errors import Conflict, InvalidParameter, LoadFailed, NotFound
from app.schemas.limits import MAX_QUOTED
from app.serving.service import DetectionService

READY, LOADING, UNAVAILABLE = "READY", "LOADING", "UNAVAILABLE"


@dataclass(frozen=True)
class IndexEntry:
    """A model of the index; `version` is "" unless it serves, `reason` is "" if it does."""

    name: str
    version: str
    state: str
    reason: str


async def index(service: DetectionService, only_ready: bool) -> list[IndexEntry]:
    """Every model that can be loaded, or only the one that serves."""
    names = await _known(service)
    entries = [_entry(service, name) for name in names]
    return [entry for entry in entries if entry.state == READY or not only_ready]


async def load(service: DetectionService, name: str, parameters: Iterable[str]) -> None:
    """Serve that model instead of the one that serves; raises ServiceError."""
    refuse_parameters(parameters)
    await service.load_model(name)


async def unload(service: DetectionService, name: str) -> None:
    """Do nothing for a model that is not loaded; raises Conflict for the one that serves, NotFound."""
    if name not in await _known(service):
        raise NotFound(f"no model {name[:MAX_QUOTED]!r}; the repository's index lists all models")
    if name == service.ready_model().name:
        raise Conflict(
            f"{name} is the only loaded model and cannot be unloaded; load another model, which replaces it"
        )


def refuse_parameters(parameters: Iterable[str], known: Iterable[str] = ()) -> None:
    """Raise InvalidParameter for a parameter without effect, such as Triton's `config`."""
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise InvalidParameter(
            f"parameters: {unknown[0][:MAX_QUOTED]!r} is not supported: the card configures the model; leave "
            "it out"
        )


async def _known(service: DetectionService) -> list[str]:
    if service.models.serving is None:
        service.check_capacity()
    try:
        return list(await asyncio.to_thread(service.swapper.loadable_cards))
    except ValueError as error:
        raise LoadFailed(f"the catalogue cannot be read: {error}") from error


def _entry(service: DetectionService, name: str) -> IndexEntry:
    current = service.ready_model()
    if name == current.name and service.state == "ok":
        return IndexEntry(name, current.version, READY, "")
    if name == service.swapper.loading:
        return IndexEntry(name, "", LOADING, "")
    return IndexEntry(name, "", UNAVAILABLE, "not loaded" if name != current.name else service.state)

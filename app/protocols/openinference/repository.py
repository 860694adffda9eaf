"""Triton's model repository extension without its transports: index, load, unload."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from app.errors import InvalidParameter, LoadFailed, UnknownModel
from app.schemas.limits import MAX_QUOTED
from app.serving.service import DetectionService

READY, LOADING, UNLOADING, UNAVAILABLE = "READY", "LOADING", "UNLOADING", "UNAVAILABLE"


@dataclass(frozen=True)
class IndexEntry:
    """A model of the index; `version` is "" unless it is loaded, `reason` is "" if it serves."""

    name: str
    version: str
    state: str
    reason: str


async def index(service: DetectionService, only_ready: bool) -> list[IndexEntry]:
    """Every model that can be loaded, or only those that serve."""
    names = await _known(service)
    entries = [_entry(service, name) for name in names]
    return [entry for entry in entries if entry.state == READY or not only_ready]


async def load(service: DetectionService, name: str, parameters: Iterable[str]) -> None:
    """Load that model; raises ServiceError."""
    refuse_parameters(parameters)
    await service.load_model(name)


async def unload(service: DetectionService, name: str) -> None:
    """Do nothing for a model that is not loaded; raises Conflict for the default one, UnknownModel."""
    known = await _known(service)
    if service.models.find(name) is not None:
        service.unload_model(name)
    elif name not in known:
        raise UnknownModel(f"no model {name[:MAX_QUOTED]!r}; the repository's index lists all models")


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
        return list(await asyncio.to_thread(service.loads.loadable_cards))
    except ValueError as error:
        raise LoadFailed(f"the catalogue cannot be read: {error}") from error


def _entry(service: DetectionService, name: str) -> IndexEntry:
    model = service.models.ready.get(name)
    if model is not None and service.ready:
        return IndexEntry(name, model.version, READY, "")
    if name == service.loads.loading:
        return IndexEntry(name, "", LOADING, "")
    releasing = [one.version for one in service.loads.releases.pending if one.name == name]
    if model is None and releasing:
        return IndexEntry(name, releasing[0], UNLOADING, "")
    return IndexEntry(name, "", UNAVAILABLE, "not loaded" if model is None else service.status)

"""Triton's model repository extension apart from its transports: which models there are, load, unload."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from app.errors import Conflict, InvalidParameter, LoadFailed, NotFound
from app.serving.service import DetectionService

READY, LOADING, UNAVAILABLE = "READY", "LOADING", "UNAVAILABLE"


@dataclass(frozen=True)
class Listed:
    """A model of the index; `version` is "" where it does not serve, `reason` where it does."""

    name: str
    version: str
    state: str
    reason: str


async def index(service: DetectionService, only_ready: bool) -> list[Listed]:
    """Every model that may be loaded, or the one that serves alone."""
    names = await _known(service)
    rows = [_listed(service, name) for name in names]
    return [row for row in rows if row.state == READY or not only_ready]


async def load(service: DetectionService, name: str, parameters: Iterable[str]) -> None:
    """Serve that model instead of the one that serves; raises ServiceError."""
    refuse_parameters(parameters)
    await service.load_model(name)


async def unload(service: DetectionService, name: str) -> None:
    """Nothing is left to do for a model that does not serve; the one that does stays. Raises ServiceError."""
    if name not in await _known(service):
        raise NotFound(f"no model {name[:60]!r} here; the repository's index lists them all")
    if name == service.ready_model().name:
        raise Conflict(
            f"{name} is the only model of this server, which is of no use without one; load another in its "
            "place, which unloads it"
        )


def refuse_parameters(given: Iterable[str], known: Iterable[str] = ()) -> None:
    """Raise InvalidParameter for a parameter that would have no effect, such as Triton's `config`."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InvalidParameter(
            f"parameters: {unknown[0][:60]!r} is not taken here: a model is as its card says; leave it out"
        )


async def _known(service: DetectionService) -> list[str]:
    if service.models.serving is None:
        service.check_capacity()
    try:
        return list(await asyncio.to_thread(service.swapper.loadable_cards))
    except ValueError as error:
        raise LoadFailed(f"the catalogue cannot be read: {error}") from error


def _listed(service: DetectionService, name: str) -> Listed:
    current = service.ready_model()
    if name == current.name and service.state == "ok":
        return Listed(name, current.version, READY, "")
    if name == service.swapper.loading:
        return Listed(name, "", LOADING, "")
    return Listed(name, "", UNAVAILABLE, "not loaded" if name != current.name else service.state)

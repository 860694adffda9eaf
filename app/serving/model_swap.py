"""Replaces the model that serves without a gap: load beside it, switch, release the old one.

A request is answered by the model that it began with: work for the old model stays in the queue, as batches
of its own, until it is done. Then nothing holds the old model any more, and its memory is freed. One load at
a time. Until the old model is released there are two in memory, and never a third: the next load waits.
"""

import asyncio
import contextlib
import gc
import logging
import time
import weakref
from dataclasses import dataclass
from pathlib import Path

from app.batching.batcher import Batcher
from app.errors import Conflict, Draining, LoadFailed, NotFound, ServiceError
from app.serving.admission import Admission
from app.serving.model import InferenceJob, InferenceResult, LoadedModel
from app.serving.model_registry import ModelRegistry
from app.settings.settings import Settings
from app.telemetry.metrics import Metrics
from models.zoo.cards import Card, read_card
from models.zoo.catalogue import catalogue

GRACE_SECONDS = 5.0  # beyond the longest request, after which a model that is still held is logged
COLLECT_SECONDS = 5.0  # between garbage collections: the traceback of an error may hold a model in a cycle

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """Name and version of a model, as answers show them."""

    name: str
    version: str

    @classmethod
    def of(cls, model: LoadedModel) -> "Identity":
        """The identity of a model, without holding the model."""
        return cls(model.name, model.version)

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


@dataclass(frozen=True)
class SwapResult:
    """The model that serves now, the one before, and the seconds that load and warm-up took."""

    current: Identity
    previous: Identity
    seconds: float


class ModelSwapper:
    """Replaces the model that serves; called on the event loop's thread."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        models: ModelRegistry,
        admission: Admission,
        batcher: Batcher[InferenceJob, InferenceResult],
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._models = models
        self._admission = admission
        self._batcher = batcher
        self._task: asyncio.Task[SwapResult | ServiceError] | None = None
        self._release_task: asyncio.Task[None] | None = None
        self._loading: str | None = None
        metrics.model_loading.set_function(lambda: self.loading is not None)

    @property
    def loading(self) -> str | None:
        """The name of the model that is being loaded; None when there is none."""
        return self._loading

    def _serving(self) -> LoadedModel:
        if self._models.serving is None:
            raise RuntimeError("no model serves: there is none to replace")
        return self._models.serving

    def loadable_cards(self) -> dict[str, Card]:
        """The cards that can be loaded, by name, read afresh; for the serving model its own."""
        cards = catalogue(self._settings.model_dir)
        if self._settings.model.endswith(".toml"):
            own = read_card(Path(self._settings.model))
            cards[own.name] = own
        serving = self._serving().card
        return cards | {serving.name: serving}

    def start_load(self, name: str) -> "asyncio.Task[SwapResult | ServiceError]":
        """Start to load the model of that name; raises Conflict while another load runs."""
        if self._task is not None and not self._task.done():
            raise Conflict(f"{self._loading} is being loaded; one at a time: ask again when that is done")
        self._loading = name
        self._task = asyncio.create_task(self._replace(name), name="swap")
        return self._task

    async def load(self, name: str) -> SwapResult:
        """Serve the model of that name; raises NotFound, Conflict, LoadFailed, Draining."""
        task = self.start_load(name)
        await asyncio.wait({task})  # the load continues when this request is cancelled
        if task.cancelled():
            raise _draining()
        outcome = task.result()
        if isinstance(outcome, ServiceError):
            raise outcome
        return outcome

    def stop(self) -> None:
        """Start no more loads. A running load continues; its result is discarded."""
        for task in (self._task, self._release_task):
            if task is not None:
                task.cancel()

    async def _replace(self, name: str) -> SwapResult | ServiceError:
        previous = Identity.of(self._serving())
        try:
            result = await self._load_and_switch(name)
        except ServiceError as error:
            self._metrics.model_swaps.labels(outcome="failed").inc()
            logger.warning("%s still serves: %s", previous, error.detail)
            return error.with_traceback(None)  # its frames hold the new model
        finally:
            self._loading = None
        self._metrics.model_swaps.labels(outcome="switched").inc()
        return result

    async def _load_and_switch(self, name: str) -> SwapResult:
        started, previous = time.monotonic(), Identity.of(self._serving())
        source = await asyncio.to_thread(self._source, name)
        if self._release_task is not None:
            await asyncio.wait({self._release_task})
        logger.info("loading %s; %s serves until it is ready", name, previous)
        cap = self._batcher.max_batch
        loaded = await self._models.load(source, self._settings.max_batch)
        if isinstance(loaded, Exception):
            self._batcher.set_max_batch(cap)  # two models in memory may have halved it
            raise _failure(name, loaded)
        if loaded.name != name:
            raise LoadFailed(
                f"the card of {name} now has the name {loaded.name}; load that name, or correct the card"
            )
        if self._admission.draining:
            raise _draining()
        self._switch(loaded)
        return SwapResult(Identity.of(loaded), previous, time.monotonic() - started)

    def _source(self, name: str) -> str:
        """The path of the card to load; `name` is looked up and never used as a path. Raises NotFound."""
        try:
            cards = self.loadable_cards()
        except (ValueError, OSError) as error:
            raise LoadFailed(f"the catalogue cannot be read: {error}") from error
        if name not in cards:
            raise NotFound(f"no model {name[:60]!r} here; choose one of: {', '.join(cards)}")
        return str(cards[name].path or name)

    def _switch(self, loaded: LoadedModel) -> None:
        old, released = self._serving(), asyncio.Event()
        weakref.finalize(old, _notify_released, asyncio.get_running_loop(), released).atexit = False
        logger.info(
            "switched to %s; %s answers the requests that it has begun", loaded.summary(), Identity.of(old)
        )
        self._models.switch(loaded)
        cap = min(self._batcher.max_batch, loaded.best_batch)
        self._batcher.set_max_batch(cap)
        self._admission.reset_estimates()
        self._release_task = asyncio.create_task(
            self._release_old(Identity.of(old), released, (cap, loaded.best_batch))
        )

    async def _release_old(self, old: Identity, released: asyncio.Event, caps: tuple[int, int]) -> None:
        """Wait until nothing holds the old model; then apply the new one's own cap and estimates."""
        switched = time.monotonic()
        timeout = self._settings.timeout_ms / 1000 + GRACE_SECONDS
        while not released.is_set() and time.monotonic() - switched < timeout:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COLLECT_SECONDS):
                    await released.wait()
            if not released.is_set():
                gc.collect()
        if self._batcher.max_batch == caps[0]:  # else a batch did not fit into memory
            self._batcher.set_max_batch(caps[1])
        self._admission.reset_estimates()
        if not released.is_set():
            logger.warning("%s is still held %.0f s after the switch", old, time.monotonic() - switched)
            return
        await asyncio.to_thread(self._models.free)
        logger.info("%s was released %.1f s after the switch", old, time.monotonic() - switched)


def _draining() -> Draining:
    return Draining("the service is stopping; load the model on another instance")


def _notify_released(loop: asyncio.AbstractEventLoop, released: asyncio.Event) -> None:
    """Set the event, from the thread on which the model was freed."""
    with contextlib.suppress(RuntimeError):  # the event loop has closed
        loop.call_soon_threadsafe(released.set)


def _failure(name: str, error: Exception) -> LoadFailed:
    """The error for the client; the text of an unexpected one goes to the log alone."""
    if isinstance(error, ValueError | OSError | MemoryError):
        return LoadFailed(f"{name} could not be loaded: {str(error) or 'there is not enough memory'}")
    logger.error("%s could not be loaded", name, exc_info=error)
    return LoadFailed(f"{name} could not be loaded; the service's log has the reason")

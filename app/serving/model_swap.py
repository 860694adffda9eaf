"""Another model in place of the one that serves, without a gap: load beside it, switch, see the old one off.

What a request began with answers it: work for the old model stays in the queue, as batches of its own, until
it is done. Then nothing holds the old one any more, and its memory goes back. One load at a time; until the
old one has gone there are two models in memory, and never a third: the next load waits for that.
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
from app.serving.model import InferenceResult, Job, LoadedModel
from app.serving.model_registry import ModelRegistry
from app.settings.settings import Settings
from app.telemetry.metrics import Metrics
from models.zoo.cards import Card, read_card
from models.zoo.catalogue import catalogue

GRACE_SECONDS = 5.0  # beyond a request's longest time, after which a model that is still held is told of
COLLECT_SECONDS = 5.0  # an error's traceback may hold a model in a cycle, which nobody else would break

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """A model as answers name it."""

    name: str
    version: str

    @classmethod
    def of(cls, model: LoadedModel) -> "Identity":
        """That of a model, without holding it."""
        return cls(model.name, model.version)

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


@dataclass(frozen=True)
class SwapResult:
    """What serves now, what did before, and how many seconds the load and the warm-up took."""

    now: Identity
    before: Identity
    seconds: float


class ModelSwapper:
    """Replaces the model that serves; all of it is called on the event loop's thread."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        models: ModelRegistry,
        admission: Admission,
        batcher: Batcher[Job, InferenceResult],
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
        """The name of the model that is being loaded beside the one that serves."""
        return self._loading

    def _current(self) -> LoadedModel:
        if self._models.serving is None:
            raise RuntimeError("no model serves: there is none to replace")
        return self._models.serving

    def known(self) -> dict[str, Card]:
        """The cards that may be loaded, by name, read afresh; of the serving one its own."""
        cards = catalogue(self._settings.model_dir)
        if self._settings.model.endswith(".toml"):
            own = read_card(Path(self._settings.model))
            cards[own.name] = own
        current = self._current().card
        return cards | {current.name: current}

    def begin(self, name: str) -> "asyncio.Task[SwapResult | ServiceError]":
        """Begin to load a model of that name, whoever waits; raises Conflict while another loads."""
        if self._task is not None and not self._task.done():
            raise Conflict(f"{self._loading} is being loaded; one at a time: ask again when that is done")
        self._loading = name
        self._task = asyncio.create_task(self._replace(name), name="swap")
        return self._task

    async def load(self, name: str) -> SwapResult:
        """Serve the model of that name; raises NotFound, Conflict, LoadFailed, Draining."""
        task = self.begin(name)
        await asyncio.wait({task})  # which goes on if this caller does not
        if task.cancelled():
            raise _stopping()
        outcome = task.result()
        if isinstance(outcome, ServiceError):
            raise outcome
        return outcome

    def stop(self) -> None:
        """Take no other model any more; one that is being loaded goes on, on its thread, for nobody."""
        for task in (self._task, self._release_task):
            if task is not None:
                task.cancel()

    async def _replace(self, name: str) -> SwapResult | ServiceError:
        before = Identity.of(self._current())
        try:
            swapped = await self._load_and_switch(name)
        except ServiceError as error:
            self._metrics.model_swaps.labels(outcome="failed").inc()
            logger.warning("%s still serves: %s", before, error.detail)
            return error.with_traceback(None)  # whose frames hold the new model
        finally:
            self._loading = None
        self._metrics.model_swaps.labels(outcome="switched").inc()
        return swapped

    async def _load_and_switch(self, name: str) -> SwapResult:
        started, before = time.monotonic(), Identity.of(self._current())
        source = await asyncio.to_thread(self._source, name)
        if self._release_task is not None:
            await asyncio.wait({self._release_task})
        logger.info("loading %s; %s serves until it is ready", name, before)
        cap = self._batcher.max_batch
        loaded = await self._models.load(source, self._settings.max_batch)
        if isinstance(loaded, Exception):
            self._batcher.set_max_batch(cap)  # two models in memory may have halved it
            raise _failure(name, loaded)
        if loaded.name != name:
            raise LoadFailed(f"the card of {name} names itself {loaded.name} now; load that name, or undo it")
        if self._admission.draining:
            raise _stopping()
        self._switch(loaded)
        return SwapResult(Identity.of(loaded), before, time.monotonic() - started)

    def _source(self, name: str) -> str:
        """The path of the card to load; a name is looked up and never a path itself. Raises NotFound."""
        try:
            cards = self.known()
        except (ValueError, OSError) as error:
            raise LoadFailed(f"the catalogue cannot be read: {error}") from error
        if name not in cards:
            raise NotFound(f"no model {name[:60]!r} here; choose one of: {', '.join(cards)}")
        return str(cards[name].path or name)

    def _switch(self, loaded: LoadedModel) -> None:
        old, gone = self._current(), asyncio.Event()
        weakref.finalize(old, _notify_released, asyncio.get_running_loop(), gone).atexit = False
        logger.info("switched to %s; %s answers what it has begun", loaded.summary(), Identity.of(old))
        self._models.switch(loaded)
        cap = min(self._batcher.max_batch, loaded.best_batch)
        self._batcher.set_max_batch(cap)
        self._admission.reset_estimates()
        self._release_task = asyncio.create_task(
            self._release_old(Identity.of(old), gone, (cap, loaded.best_batch))
        )

    async def _release_old(self, old: Identity, gone: asyncio.Event, caps: tuple[int, int]) -> None:
        """Wait until nothing holds the old model; then the new one may have its own cap and figures."""
        switched = time.monotonic()
        patience = self._settings.timeout_ms / 1000 + GRACE_SECONDS
        while not gone.is_set() and time.monotonic() - switched < patience:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COLLECT_SECONDS):
                    await gone.wait()
            if not gone.is_set():
                gc.collect()
        if self._batcher.max_batch == caps[0]:  # else it did not fit into memory
            self._batcher.set_max_batch(caps[1])
        self._admission.reset_estimates()
        if not gone.is_set():
            logger.warning("%s is still held %.0f s after the switch", old, time.monotonic() - switched)
            return
        await asyncio.to_thread(self._models.free)
        logger.info("%s has gone, %.1f s after the switch", old, time.monotonic() - switched)


def _stopping() -> Draining:
    return Draining("the service is stopping; load the model on another instance")


def _notify_released(loop: asyncio.AbstractEventLoop, gone: asyncio.Event) -> None:
    """From whichever thread let the model go."""
    with contextlib.suppress(RuntimeError):  # the event loop has closed: nobody waits any more
        loop.call_soon_threadsafe(gone.set)


def _failure(name: str, error: Exception) -> LoadFailed:
    """A ValueError (a card, weights, a device), OSError or MemoryError says it all, else the log does."""
    if isinstance(error, ValueError | OSError | MemoryError):
        return LoadFailed(f"{name} could not be loaded: {str(error) or 'there is not enough memory'}")
    logger.error("%s could not be loaded", name, exc_info=error)
    return LoadFailed(f"{name} could not be loaded; the service's log has the reason")

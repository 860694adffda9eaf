"""Loads, replaces and unloads models without a gap, one load at a time.

A model is loaded beside those that serve, then takes its name over. A request is answered by the model that
it began with: work for an old one stays in the queue, as batches of its own, until it is done. Until then it
is in memory (`release.py`), and the next load waits for that: at most one is in memory beside those
that serve.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from app.batching.batcher import Batcher
from app.errors import Conflict, Draining, LoadFailed, ServiceError, UnknownModel
from app.schemas.limits import MAX_QUOTED
from app.serving.admission import Admission
from app.serving.model import InferenceJob, InferenceResult, LoadedModel
from app.serving.models.failures import FailedLoads
from app.serving.models.memory import check_fits
from app.serving.models.names import candidates
from app.serving.models.registry import ModelRegistry
from app.serving.models.release import Identity, Releases
from app.settings.settings import Settings
from app.telemetry.metrics import Metrics
from models.zoo.cards import Card, read_card
from models.zoo.catalogue import catalogue

# Of one of several models: what a request of another one may have to wait for. On two cores four images of
# `shapes` take that long, and batches of four give it 18 % more images a second (models/pipeline/warm_up.py).
LONGEST_BATCH_SECONDS = 0.1
GRACE_SECONDS = 5.0  # beyond the longest request, after which a model that is still held is logged

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadResult:
    """The model that was loaded, the one that it replaced, if any, and the seconds that it took."""

    current: Identity
    previous: Identity | None
    seconds: float


class ModelLoads:
    """The life cycle of models after the start; called on the event loop's thread."""

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
        self._task: asyncio.Task[LoadResult | ServiceError] | None = None
        self._reload: asyncio.Task[None] | None = None
        self._loading: str | None = None
        self.last_name: str | None = None  # of the last load
        self.failures = FailedLoads(metrics)
        self._seconds: dict[str, float] = {}  # of the last load that succeeded, by name
        self.starting: list[str] = []  # models of RCNN_MODEL that are not loaded yet
        self.kept: set[str] = set()  # named at the start: no other load unloads them
        grace = settings.timeout_ms / 1000 + GRACE_SECONDS
        self.releases = Releases(grace, models.source.free, self._on_released)
        metrics.model_loading.set_function(lambda: self.loading is not None)

    @property
    def loading(self) -> str | None:
        """The name of the model that is being loaded; None when there is none."""
        return self._loading

    @property
    def running(self) -> "asyncio.Task[LoadResult | ServiceError] | None":
        """The load that runs now."""
        return None if self._task is None or self._task.done() else self._task

    def expected_seconds(self, name: str) -> float:
        """Seconds that the last load of that model took; 0 where there was none."""
        return self._seconds.get(name, 0.0)

    def loadable_cards(self) -> dict[str, Card]:
        """The cards that can be loaded, by name, read afresh; for a model that serves its own."""
        cards = catalogue(self._settings.model_dir)
        for path in self._settings.models:
            if path.endswith(".toml"):
                own = read_card(Path(path))
                cards[own.name] = own
        return cards | {name: model.card for name, model in self._models.ready.items()}

    def start_load(self, name: str, *, default: bool = False) -> "asyncio.Task[LoadResult | ServiceError]":
        """Start to load the model of that name; raises Conflict while another load runs."""
        if self.running is not None:
            raise Conflict(f"{self._loading} is being loaded; one at a time: ask again when that is done")
        self._loading = name
        self._task = asyncio.create_task(self._run(name, default), name="load")
        return self._task

    async def load(self, name: str, *, default: bool = False) -> LoadResult:
        """Serve the model of that name; raises UnknownModel, Conflict, LoadFailed, Draining.

        `default`: it answers requests that name no model, too.
        """
        task = self.start_load(name, default=default)
        await asyncio.wait({task})  # the load continues when this request is cancelled
        if task.cancelled():
            raise _draining()
        outcome = task.result()
        if isinstance(outcome, ServiceError):
            raise outcome
        return outcome

    def reload_all(self) -> None:
        """Load every model that serves again, one after the other, in the background; the log has results."""
        names = list(self._models.ready)
        self.start_load(names[0])  # raises Conflict
        self._reload = asyncio.create_task(self._reload_rest(names[1:]), name="reload")

    async def _reload_rest(self, names: list[str]) -> None:
        for name in names:
            if self._task is not None:
                await asyncio.wait({self._task})
            if name in self._models.ready:
                try:
                    self.start_load(name)
                except Conflict as error:
                    logger.warning("%s is not reloaded: %s", name, error.detail)

    def unload(self, text: str) -> Identity:
        """Take a model off; it answers what it has begun. Raises UnknownModel, Conflict for the default."""
        model = self._models.get(text)
        identity = Identity.of(model)
        if model is self._models.serving:
            raise _is_default(identity.name, alone=len(self._models.ready) == 1)
        del model
        self.kept.discard(identity.name)
        self._take_off(identity.name)
        return identity

    def stop(self) -> None:
        """Start no more loads. A running load continues; its result is discarded."""
        for task in (self._task, self._reload):
            if task is not None:
                task.cancel()
        self.releases.stop()

    async def _run(self, name: str, default: bool) -> LoadResult | ServiceError:
        serving = ", ".join(str(Identity.of(model)) for model in self._models.ready.values())
        try:
            result = await self._load_and_serve(name, default)
        except ServiceError as error:
            self._metrics.model_swaps.labels(outcome="failed").inc()
            if isinstance(error, LoadFailed) and self._loading is not None:
                self.failures.remember(self._loading, error.detail)
            logger.warning("%s still serves: %s", serving, error.detail)
            return error.with_traceback(None)  # its frames hold the new model
        finally:
            self.last_name, self._loading = self._loading, None
        self._metrics.model_swaps.labels(outcome="switched").inc()
        self.failures.forget(result.current.name)
        self._seconds[result.current.name] = result.seconds
        return result

    async def _load_and_serve(self, text: str, default: bool) -> LoadResult:
        started = time.monotonic()
        name, card = await asyncio.to_thread(self._find_card, text)
        self._loading = name
        replaced = self._replaced_by(name)
        if replaced is None:
            self._make_room(name)
        await self.releases.wait()
        await asyncio.to_thread(check_fits, self._models.source, card, self._models.measured(name))
        logger.info("loading %s; until it is ready these serve: %s", name, ", ".join(self._models.ready))
        loaded = await self._models.load(str(card.path or name), self._settings.max_batch)
        if isinstance(loaded, Exception):
            raise _failure(name, loaded)
        if loaded.name != name:
            raise LoadFailed(
                f"the card of {name} now has the name {loaded.name}; load that name, or correct the card"
            )
        if self._admission.draining:
            raise _draining()
        return LoadResult(Identity.of(loaded), self._serve(loaded, replaced, default), _since(started))

    def _find_card(self, text: str) -> tuple[str, Card]:
        """The name and card of a model; `text` is looked up and never used as a path. Raises UnknownModel."""
        try:
            cards = self.loadable_cards()
        except (ValueError, OSError) as error:
            raise LoadFailed(f"the catalogue cannot be read: {error}") from error
        for wanted in candidates(text, self._models.aliases):
            if wanted.name in cards:
                return wanted.name, cards[wanted.name]
        raise UnknownModel(f"no model {text[:MAX_QUOTED]!r} here; choose one of: {', '.join(cards)}")

    def _replaced_by(self, name: str) -> str | None:
        """The name of the model whose place a new one takes; None where it is loaded beside all of them."""
        if name in self._models.ready:
            return name
        serving = self._models.serving
        return serving.name if serving is not None and self._settings.model_limit == 1 else None

    def _make_room(self, name: str) -> None:
        """Take the least recently used model off where no more may be loaded; raises Conflict."""
        ready, limit = self._models.ready, self._settings.model_limit
        if len(ready) < limit:
            return
        default = self._models.serving
        idle = [one for one in ready if one not in self.kept and ready[one] is not default]
        if not idle:
            raise Conflict(
                f"{name} does not fit: RCNN_MAX_LOADED_MODELS allows {limit} models, and {', '.join(ready)} "
                "are loaded, as RCNN_MODEL names them or one is the default; unload one of them with POST "
                "/models/NAME/unload, or raise RCNN_MAX_LOADED_MODELS"
            )
        victim = min(idle, key=lambda one: self._models.usage(one).last)
        logger.info("%s is unloaded to make room for %s", victim, name)
        self._take_off(victim)

    def _take_off(self, name: str) -> None:
        self.releases.begin(self._models.remove(name))
        self.share_devices()

    def _serve(self, loaded: LoadedModel, replaced: str | None, default: bool) -> Identity | None:
        """Let a model answer new requests; the one that it replaces."""
        was_default = self._models.serving is not None and self._models.serving.name == replaced
        old = self._models.add(loaded, default=default or was_default)
        if replaced is not None and replaced != loaded.name:
            old = self._models.remove(replaced)
        if old is not None:
            loaded.flow.pace = old.flow.pace.as_guess()
        if old is None:
            logger.info("%s serves too", loaded.summary())
        else:
            previous = Identity.of(old)
            logger.info(
                "switched to %s; %s answers the requests that it has begun", loaded.summary(), previous
            )
            self.releases.begin(old)
        self.share_devices()
        return None if old is None else Identity.of(old)

    def share_devices(self) -> None:
        """Let the models share queue and devices: where there are several, no batch may take long."""
        ready = self._models.ready.values()
        self._admission.shares.set_models(len(ready))
        for model in ready:
            model.flow.longest = LONGEST_BATCH_SECONDS if len(ready) > 1 else None

    def _on_released(self) -> None:
        """A model less is in memory: a batch that did not fit beside it may fit now."""
        for model in self._models.ready.values():
            model.flow.set_max_batch(model.best_batch)
            model.flow.pace.reset()


def _since(started: float) -> float:
    return time.monotonic() - started


def _is_default(name: str, *, alone: bool) -> Conflict:
    if alone:
        return Conflict(
            f"{name} is the only loaded model and cannot be unloaded; load another model, which replaces it"
        )
    return Conflict(
        f"{name} is the default model and cannot be unloaded; make another one the default first: POST "
        "/models/NAME/load?default=true"
    )


def _draining() -> Draining:
    return Draining("the service is stopping; load the model on another instance")


def _failure(name: str, error: Exception) -> LoadFailed:
    """The error for the client; the text of an unexpected one goes to the log alone."""
    if isinstance(error, ValueError | OSError | MemoryError):
        return LoadFailed(f"{name} could not be loaded: {str(error) or 'there is not enough memory'}")
    logger.error("%s could not be loaded", name, exc_info=error)
    return LoadFailed(f"{name} could not be loaded; the service's log has the reason")

"""The models that serve, by name, one of them the default; loads, warms up and runs models."""

import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from weakref import WeakSet

from app.batching.flow import Flow
from app.batching.worker import Launched, RunResult, Worker
from app.errors import UnknownModel
from app.schemas.limits import MAX_QUOTED
from app.serving.interfaces import Canvas, Detector, ModelSource
from app.serving.model import InferenceJob, InferenceResult, LoadedModel
from app.serving.models.names import candidates, check_version
from app.telemetry import tracing
from app.telemetry.metrics import Metrics
from models.zoo.classes import Classes

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Usage:
    """How a model of a name was used: requests so far, and when the last one began (monotonic)."""

    requests: int = 0
    last: float = 0.0


class ModelRegistry:
    """The models that serve: loaded after the start, replaced and taken off later."""

    def __init__(
        self, source: ModelSource, metrics: Metrics, aliases: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.source = source
        self.aliases = aliases
        self._metrics = metrics
        self._ready: dict[str, LoadedModel] = {}
        self._default: str | None = None
        self._measured: dict[str, int] = {}  # bytes of the last load, by name
        self._usage: defaultdict[str, Usage] = defaultdict(Usage)
        self._in_memory: WeakSet[LoadedModel] = WeakSet()
        self._loaders: WeakSet[Worker[str, LoadedModel]] = WeakSet()
        metrics.models_in_memory.set_function(lambda: len(self._in_memory))

    @property
    def serving(self) -> LoadedModel | None:
        """The default model, of requests that name none; None until it is loaded."""
        return self._ready.get(self._default) if self._default is not None else None

    @property
    def ready(self) -> Mapping[str, LoadedModel]:
        """The models that answer new requests, by name."""
        return MappingProxyType(self._ready)

    def usage(self, name: str) -> Usage:
        """How the model of that name was used."""
        return self._usage.get(name, Usage())

    def measured(self, name: str) -> int:
        """Bytes that the last load of a model took; 0 for none."""
        return self._measured.get(name, 0)

    def find(self, text: str | None, version: str = "") -> LoadedModel | None:
        """The model of a name or alias, None for the default; raises UnknownModel for another version of it.

        None where no model of that name is ready.
        """
        if text is None:
            if self.serving is not None:
                check_version(self.serving, version)
            return self.serving
        for wanted in candidates(text, self.aliases):
            if (model := self._ready.get(wanted.name)) is not None:
                check_version(model, wanted.version or version)
                return model
        return None

    def get(self, text: str, version: str = "") -> LoadedModel:
        """As `find`, but raises UnknownModel where no model of that name is ready."""
        if (model := self.find(text, version)) is None:
            raise self.not_loaded(text)
        return model

    def not_loaded(self, text: str, hint: str = "GET /models lists the catalogue") -> UnknownModel:
        """The error for a name of no model that is ready."""
        names = [f"{name!r} (the default)" if name == self._default else repr(name) for name in self._ready]
        return UnknownModel(
            f"no model {text[:MAX_QUOTED]!r} is loaded; loaded are {', '.join(names)}; {hint}"
        )

    @property
    def loading(self) -> bool:
        """Whether a thread is still loading a model, even an abandoned one."""
        return any(loader.alive for loader in self._loaders)

    async def load(self, model: str, max_batch: int) -> LoadedModel | Exception:
        """Load a model and warm it up for batches of up to `max_batch`; returns the error if that fails.

        On a daemon thread: a download cannot be interrupted, and must not keep the process from ending.
        """
        loader: Worker[str, LoadedModel] = Worker(
            lambda names: [self._load_one(name, max_batch) for name in names], time.monotonic
        )
        self._loaders.add(loader)
        try:
            outcome = await loader.call([model])
        finally:
            loader.stop()
        return outcome.results[0] if isinstance(outcome, RunResult) else outcome

    def _load_one(self, model: str, max_batch: int) -> LoadedModel:
        before = self.source.used_bytes()
        detectors = tuple(self.source.load(model))
        classes = Classes.of(detectors[0].card.labels)
        best_batch = _warm_up(detectors, max_batch)
        self.source.free()
        memory = max(0, self.source.used_bytes() - before)
        loaded = LoadedModel(
            detectors, classes, best_batch, memory, Flow(best_batch, model=detectors[0].card.name)
        )
        if (hint := loaded.detector.precision_choice.hint) is not None:
            logger.info("%s: %s", loaded.name, hint)
        self._measured[loaded.name] = memory
        self._in_memory.add(loaded)
        return loaded

    def add(self, model: LoadedModel, *, default: bool = False) -> LoadedModel | None:
        """Answer requests that begin from now on and name this model by it; the one that had its name.

        `default`: those that name none too. The first one is the default in any case.
        """
        before = self._ready.get(model.name)
        self._ready[model.name] = model
        self._usage[model.name].last = time.monotonic()
        if default or self._default is None:
            self._default = model.name
        self._describe_all()
        return before

    def remove(self, name: str) -> LoadedModel:
        """Take a model off: no request that begins from now on gets it."""
        model = self._ready.pop(name)
        self._describe_all()
        return model

    def count_use(self, model: LoadedModel) -> None:
        """Count a request of a model that begins now."""
        usage = self._usage[model.name]
        usage.requests += 1
        usage.last = time.monotonic()
        self._metrics.model_requests.labels(model=model.name).inc()

    def _describe_all(self) -> None:
        self._metrics.model_info.clear()
        self._metrics.device_memory_bytes.clear()  # its callbacks hold the old detectors
        self._metrics.cuda_graphs.clear()
        self._metrics.model_memory_bytes.clear()
        for model in self._ready.values():
            self._metrics.model_memory_bytes.labels(model=model.name).set(model.memory_bytes)
            for detector in model.detectors:
                self._describe(detector)

    def _describe(self, detector: Detector) -> None:
        card = detector.card
        self._metrics.model_info.labels(
            name=card.name,
            architecture=card.architecture,
            engine=detector.engine_name,
            precision=detector.precision,
            device=detector.device,
            version=detector.version,
        ).set(1)
        if detector.cuda_graphs:
            self._metrics.cuda_graphs.labels(device=detector.device).inc(detector.cuda_graphs)
        for kind in detector.memory_bytes():
            memory = self._metrics.device_memory_bytes.labels(device=detector.device, kind=kind)
            memory.set_function(partial(_memory, detector, kind))

    def check(self, device: int = 0) -> None:
        """Raise if a device cannot run its warm-up."""
        if self.serving is None:
            raise RuntimeError("no model is loaded")
        self.serving.detectors[device].warm_up(1)

    def run(
        self, jobs: list[InferenceJob], device: int = 0
    ) -> list[InferenceResult] | Launched[InferenceResult]:
        """One batch of one model on a device, timed by stage; called by the batcher, on its thread.

        A device that computes on after the launch takes the next batch meanwhile.
        """
        model, durations = jobs[0].model, self._metrics.stage_duration
        detector = model.detectors[device]
        stages: defaultdict[str, float] = defaultdict(float)

        def observe(stage: str, seconds: float) -> None:
            stages[stage] += seconds
            durations.labels(stage=stage, model=model.name).observe(seconds)
            tracing.stage(batch, stage, seconds)

        def read() -> list[InferenceResult]:
            with span:
                results = detector.read(launched)
            padding = _padding_ratio([job.canvas for job in jobs])
            self._metrics.padding_ratio.labels(model=model.name).observe(padding)
            return [InferenceResult(detections, stages["postprocess"], batch) for detections in results]

        with ExitStack() as until_read:
            batch = until_read.enter_context(tracing.batch([job.span for job in jobs]))
            if batch is not None:
                batch.set_attributes(_attributes(jobs))
            launched = detector.launch(jobs, observe)
            span = until_read.pop_all()
        return Launched(read) if detector.overlaps else read()


def _attributes(jobs: Sequence[InferenceJob]) -> tracing.Attributes:
    """The attributes of a batch's span; the canvas as width x height."""
    height, width = jobs[0].canvas.key
    return {"rcnn.batch.size": len(jobs), "rcnn.canvas": f"{width}x{height}"}


def _warm_up(detectors: Sequence[Detector], cap: int) -> int:
    """The largest useful batch up to `cap` on every device; one of several with the same name is measured."""
    measured: set[str] = set()
    for detector in detectors:
        if detector.device in measured:
            detector.warm_up(1)
        else:
            measured.add(detector.device)
            cap = detector.warm_up(cap)
    return cap


def _padding_ratio(canvases: Sequence[Canvas]) -> float:
    """Share of the canvases' pixels that is not image, 0 to 1."""
    computed = sum(canvas.key[0] * canvas.key[1] for canvas in canvases)
    return 1 - sum(canvas.content[0] * canvas.content[1] for canvas in canvases) / computed


def _memory(detector: Detector, kind: str) -> float:
    return detector.memory_bytes()[kind]

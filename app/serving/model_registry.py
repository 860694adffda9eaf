"""The model that serves; loads, warms up and runs models."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from weakref import WeakSet

from app.batching.worker import RunResult, Worker
from app.serving.interfaces import Canvas, Detector
from app.serving.model import InferenceJob, InferenceResult, LoadedModel
from app.telemetry import tracing
from app.telemetry.metrics import Metrics
from models.zoo.classes import Classes


class ModelRegistry:
    """The model that serves: loaded after the start, and may be replaced."""

    def __init__(
        self,
        load: Callable[[str], Sequence[Detector]],
        metrics: Metrics,
        free: Callable[[], None] = lambda: None,
    ) -> None:
        """`load`: a model's name, or the path of its card, to a detector for each device; slow, on a thread.

        `free` returns the memory that an unloaded model left in pools; on a thread too.
        """
        self._load = load
        self.free = free
        self._metrics = metrics
        self._serving: LoadedModel | None = None
        self._in_memory: WeakSet[LoadedModel] = WeakSet()
        self._loaders: WeakSet[Worker[str, LoadedModel]] = WeakSet()
        metrics.models_in_memory.set_function(lambda: len(self._in_memory))

    @property
    def serving(self) -> LoadedModel | None:
        """The model that answers new requests; None while it loads or when it could not be loaded."""
        return self._serving

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
        detectors = tuple(self._load(model))
        classes = Classes.of(detectors[0].card.labels)
        loaded = LoadedModel(detectors, classes, _warm_up(detectors, max_batch))
        self._in_memory.add(loaded)
        return loaded

    def switch(self, model: LoadedModel) -> None:
        """Answer requests that begin from now on by this model; on the event loop's thread."""
        self._serving = model
        self._metrics.model_info.clear()
        self._metrics.device_memory_bytes.clear()  # its callbacks hold the old detectors
        self._metrics.cuda_graphs.clear()
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
            self._metrics.cuda_graphs.labels(device=detector.device).set(detector.cuda_graphs)
        for kind in detector.memory_bytes():
            memory = self._metrics.device_memory_bytes.labels(device=detector.device, kind=kind)
            memory.set_function(partial(_memory, detector, kind))

    def check(self, device: int = 0) -> None:
        """Raise if a device cannot run its warm-up."""
        if self._serving is None:
            raise RuntimeError("no model is loaded")
        self._serving.detectors[device].warm_up(1)

    def run(self, jobs: list[InferenceJob], device: int = 0) -> list[InferenceResult]:
        """One batch of one model on a device, timed by stage; called by the batcher, on its thread."""
        stages: defaultdict[str, float] = defaultdict(float)

        def observe(stage: str, seconds: float) -> None:
            stages[stage] += seconds
            self._metrics.stage_duration.labels(stage=stage).observe(seconds)
            tracing.stage(batch, stage, seconds)

        with tracing.batch([job.span for job in jobs]) as batch:
            if batch is not None:
                batch.set_attributes(_attributes(jobs))
            results = jobs[0].model.detectors[device].detect(jobs, observe)
        self._metrics.padding_ratio.observe(_padding_ratio([job.canvas for job in jobs]))
        return [InferenceResult(detections, stages["postprocess"], batch) for detections in results]


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

"""The detector: runs a batch of canvases through dense part, proposals, RoIAlign, head and postprocess."""

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from models.detections import Detections
from models.engines import EngineChoice, build_engines, fallback_reason
from models.engines.cuda_device import memory_bytes
from models.engines.protocol import Engine, PrecisionOverflow
from models.images.decoder import Image
from models.ops.memory import out_of_memory_as
from models.options import Options
from models.pipeline.batches.device_thread import CallOnThread, DeviceThread, same_thread
from models.pipeline.batches.runner import Batch, BatchRunner
from models.pipeline.buckets import likely_canvases, uses_buckets
from models.pipeline.canvas import Canvas, StagedCanvas
from models.pipeline.checksums import NonFiniteOutputs
from models.pipeline.device_upload import DeviceUpload
from models.pipeline.postprocess import collect_all
from models.pipeline.proposals import ProposalConfig, Proposer, proposal_config
from models.pipeline.rows import Answers
from models.pipeline.stage_timer import Observe, StageTimer, ignore
from models.pipeline.tail import Tail
from models.pipeline.trimmed import Trimmed
from models.pipeline.warm_up import best_seconds, useful_batch
from models.precision.evidence import find_proof
from models.precision.proof import EXACT, PrecisionChoice
from models.zoo.cards import AUTO, Card
from models.zoo.download import Downloads
from models.zoo.loading import load_network
from models.zoo.version import version_of

log = logging.getLogger(__name__)

WARM_UP_SECONDS = 4.0  # afterwards no larger batch is tried: a heavy model on a CPU gains nothing from it
SMALLEST_SIZE = 64  # px; the lower bound of a card's min_size


@dataclass(frozen=True, eq=False)
class Job:
    """One image's canvas and its request's options."""

    canvas: Canvas | StagedCanvas
    options: Options


@dataclass(frozen=True)
class DetectorSpec:
    """The arguments of `load_detector`: plain values of the settings."""

    model: str
    cache_dir: Path
    model_dir: Path | None = None
    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"
    threads: int = 0  # 0 = one per core
    memory: float = 1.0  # share of a GPU's memory that this process may use
    downloads: Downloads = field(default_factory=Downloads)


@dataclass(frozen=True)
class LoadFacts:
    """How a detector came about: its precision, its model's version, why "auto" chose another model."""

    precision: PrecisionChoice
    version: str = "unknown"
    fallback_reason: str | None = None
    hint: str | None = None  # what to do about that


@dataclass(frozen=True, eq=False)
class Regions:
    """The RPN's proposals (N, 4) xyxy image px, best first; its anchors (A, 4) xyxy canvas px, per level."""

    proposals: Tensor
    anchors: list[Tensor]


@dataclass(frozen=True, eq=False)
class LaunchedBatch:
    """A batch that the device computes, or has computed; `Detector.read` gives its detections."""

    jobs: Sequence[Job]
    answers: Answers
    stages: StageTimer


class Detector:
    """A loaded model on its device.

    On a GPU it has a thread of its own, and a batch may be launched while the one before is computed. On a
    CPU it is not thread-safe: one batch at a time, from one thread.
    """

    def __init__(
        self,
        network: FasterRCNN,
        card: Card,
        engine: Engine,
        facts: "LoadFacts | None" = None,
    ) -> None:
        facts = facts or LoadFacts(PrecisionChoice(engine.precision, "chosen by the caller"))
        self.card = card
        self.version = facts.version
        self.fallback_reason = facts.fallback_reason
        self.hint = facts.hint
        self.precision_choice = facts.precision
        self._engine = engine
        self.proposal_config = proposal_config(network)
        own = None if card.sections_are_default else Trimmed(engine.suppress, *card.head.after_nms)
        self._bucketed = uses_buckets(engine.device, engine.precision, own is None)
        self._upload = DeviceUpload(torch.device(engine.device), card.preprocessing, self._bucketed)
        self._runner = BatchRunner(engine, Tail(network, engine, own), self._upload, len(card.labels))
        self.on_thread: CallOnThread = DeviceThread() if engine.device.startswith("cuda") else same_thread

    @property
    def engine_name(self) -> str:
        """The engine's name: torch or openvino."""
        return self._engine.name

    @property
    def device(self) -> str:
        """The device: cpu, cuda:0, …"""
        return self._engine.device

    @property
    def precision(self) -> str:
        """fp32, fp16, bf16 or int8."""
        return self._engine.precision

    @property
    def overlaps(self) -> bool:
        """Whether a batch may be launched while the one before is computed."""
        return self.device.startswith("cuda")

    def prepare(self, image: Image, size: int | None = None) -> Canvas | StagedCanvas:
        """The image's canvas; `size` replaces the card's short side and scales the long side's limit."""
        return self._upload.prepare(image, *self.card.canvas_limits(size))

    def detect(self, jobs: Sequence[Job], observe: Observe | None = None) -> list[Detections]:
        """Detections per job, in order; jobs share a canvas key. Raises MemoryError, NonFiniteOutputs."""
        return self.read(self.launch(jobs, observe)) if jobs else []

    def launch(self, jobs: Sequence[Job], observe: Observe | None = None) -> LaunchedBatch:
        """Begin one or more jobs, which share a canvas key. A GPU computes on; a CPU is done on return."""
        if len({job.canvas.key for job in jobs}) > 1:
            raise ValueError("the jobs of a batch must share one canvas size; group them by canvas.key")
        with self._out_of_memory(jobs):
            return self.on_thread(lambda: self._launch(jobs, observe or ignore))

    def read(self, launched: LaunchedBatch) -> list[Detections]:
        """Wait for a batch, on any thread; its detections as those of `detect`."""
        with self._out_of_memory(launched.jobs), torch.inference_mode(), self._upload.computing():
            images = launched.answers.read()
            if images is None:
                images = self.on_thread(lambda: self._exact(launched.jobs))
            launched.stages.finish()
            canvases, options = zip(*((job.canvas, job.options) for job in launched.jobs), strict=True)
            return collect_all(images, canvases, options, self.card.head.empty_boxes)

    def _out_of_memory(self, jobs: Sequence[Job]) -> AbstractContextManager[None]:
        return out_of_memory_as(f"{len(jobs)} canvases of {jobs[0].canvas.key} do not fit on {self.device}")

    def _launch(self, jobs: Sequence[Job], observe: Observe) -> LaunchedBatch:
        with torch.inference_mode(), self._upload.computing():
            stages = StageTimer(torch.device(self.device), observe)
            return LaunchedBatch(jobs, self._runner(self._batch(jobs), stages).fetch(), stages)

    def _exact(self, jobs: Sequence[Job]) -> list[Tensor]:
        with torch.inference_mode(), self._upload.computing():
            return self._runner.exact(self._batch(jobs)).fetch().read() or []

    def _batch(self, jobs: Sequence[Job]) -> Batch:
        return self._runner.batch([job.canvas for job in jobs], [job.options for job in jobs])

    def regions(self, job: Job, config: ProposalConfig) -> Regions:
        """The RPN's proposals and anchors, with the parameters of `config` instead of the network's own."""
        return self.on_thread(lambda: self._regions(job, config))

    @torch.inference_mode()
    def _regions(self, job: Job, config: ProposalConfig) -> Regions:
        with self._upload.computing():
            dense = self._engine.dense(self._upload.stack([job.canvas]).permute(0, 3, 1, 2))
            propose = Proposer(config, Trimmed(self._engine.suppress))
            [boxes] = propose(dense, job.canvas.key, [job.canvas.content])
            return Regions(job.canvas.to_image(boxes), propose.anchors(dense, job.canvas.key))

    def warm_up(self, cap: int) -> int:
        """Time growing batches; returns the largest, up to `cap`, that reduces the time per image by enough.

        Also records them as CUDA graphs, and those of other likely canvases. Raises NonFiniteOutputs.
        """
        return self.on_thread(lambda: self._warm_up(cap))

    def _warm_up(self, cap: int) -> int:
        job = self._sample_job()
        useful = self._useful_batch(job, cap)
        deadline = time.perf_counter() + WARM_UP_SECONDS
        canvases = likely_canvases(self.card.canvas_limits(), job.canvas.key, self._bucketed)
        for canvas, size in product(canvases, [2**k for k in range(useful.bit_length())]):
            if time.perf_counter() < deadline:
                self.get_ready(size, canvas)
        return useful

    def get_ready(self, batch: int, canvas: tuple[int, int]) -> None:
        """Record batches of that size on a canvas (height, width) as a CUDA graph, if a GPU has room."""
        self.on_thread(lambda: self._runner.get_ready(batch, canvas))

    def _useful_batch(self, job: Job, cap: int) -> int:
        self.get_ready(1, job.canvas.key)
        self.detect([job])
        deadline = time.perf_counter() + WARM_UP_SECONDS

        def seconds_per_image(size: int) -> float:
            self.get_ready(size, job.canvas.key)
            return best_seconds(lambda: self.detect([job] * size)) / size

        return useful_batch(seconds_per_image, cap, lambda: time.perf_counter() < deadline)

    def check_outputs(self) -> None:
        """Run an image of noise, a small one in fp32; raises PrecisionOverflow, NonFiniteOutputs."""
        exact = self.precision == EXACT
        try:
            self.detect([self._sample_job(SMALLEST_SIZE if exact else None)])
        except NonFiniteOutputs as error:
            if exact:
                raise
            raise PrecisionOverflow(f"{self.precision}: {error}") from error

    def _sample_job(self, size: int | None = None) -> Job:
        """A 4:3 image of noise, which keeps every stage busy, unlike an empty one."""
        side = size or self.card.min_size
        noise = np.random.default_rng(0).integers(0, 256, (side, side * 4 // 3, 3), np.uint8)
        options = Options(self.card.score_threshold, self.card.nms_threshold, self.card.max_detections)
        return Job(self.prepare(Image(noise, "PNG"), size), options)

    def memory_bytes(self) -> dict[str, int]:
        """Device memory by kind, in bytes; empty on the CPU."""
        return memory_bytes(torch.device(self.device), self._runner.graph_bytes)

    @property
    def cuda_graphs(self) -> int:
        """How many shapes of batches are replayed as CUDA graphs."""
        return len(self._runner.shapes)


def load_detector(spec: DetectorSpec) -> Detector:
    """Find the card, load its weights and put the network on the device; errors say what to do."""
    return load_detectors(spec, [spec.device])[0]


def load_detectors(spec: DetectorSpec, devices: Sequence[str]) -> list[Detector]:
    """As `load_detector`, one for each device; detectors on the same device share their weights.

    If the precision "auto" means overflows, fp32 takes its place. Raises PrecisionOverflow, NonFiniteOutputs.
    """
    try:
        return _load_in_precision(spec, devices)
    except PrecisionOverflow as error:
        if spec.precision != AUTO:
            raise
        log.warning("fp32 is used, as %s overflows in the automatic precision: %s", spec.model, error)
        overflow = f"fp32 is exact; the automatic precision overflows: {error}"
    return _load_in_precision(replace(spec, precision=EXACT), devices, overflow)


def _load_in_precision(
    spec: DetectorSpec, devices: Sequence[str], reason: str | None = None
) -> list[Detector]:
    loaded = load_network(spec.model, spec.model_dir, spec.cache_dir, downloads=spec.downloads)
    card = loaded.card
    proof, quantized = find_proof(card, loaded.weights, spec.cache_dir, spec.precision)
    asked = "", spec.engine, spec.precision, spec.threads, spec.cache_dir, quantized, spec.memory
    version = version_of(loaded.network, card)  # before an engine changes the weights' layout
    with out_of_memory_as(f"there is not enough memory on {', '.join(devices)} for the weights"):
        built = build_engines(loaded.network, EngineChoice(*asked, proof, card.min_size), devices)
    fallback = fallback_reason(devices, loaded.fallback_reason)
    detectors = []
    for one in built:
        chosen = replace(one.precision, reason=reason) if reason else one.precision
        facts = LoadFacts(chosen, version, fallback, loaded.hint)
        detectors.append(Detector(loaded.network, card, one.engine, facts))
    for detector in detectors:
        detector.check_outputs()
    return detectors

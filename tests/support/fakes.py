"""A detector without a network in place of the real one, and images for it."""

import io
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from PIL import Image as pillow

from models.detections import Detections
from models.images.decoder import Image
from models.precision.proof import PrecisionChoice
from models.zoo.cards import Card

CARD = Card(
    name="fake",
    architecture="fake",
    weights="file:fake.safetensors",
    labels=("background", "Square", "disc", "N/A", "kite"),
    score_threshold=0.5,
    nms_threshold=0.5,
    max_detections=100,
    min_size=128,
    max_size=256,
    training=None,
)

# Its detections in every image: label, score, box as fractions of width and height.
FINDS = (
    (1, 0.9375, (0.125, 0.25, 0.5, 0.75)),
    (2, 0.75, (0.25, 0.25, 1.0, 0.5)),
    (4, 0.25, (0.0, 0.0, 1 / 3, 1 / 7)),
)


@dataclass(frozen=True)
class FakeCanvas:
    """An image's sizes as (height, width), and nothing of its pixels."""

    key: tuple[int, int]
    content: tuple[int, int]
    image_size: tuple[int, int]

    @property
    def nbytes(self) -> int:
        return self.key[0] * self.key[1] * 12


@dataclass
class FakeDetector:
    """Detects FINDS in every image, filtered by the options; a test may block it, slow it or make it fail."""

    seconds: float = 0.0  # of every batch
    decode_seconds: float = 0.0  # of every image, before its batch
    poison: Callable[[Any], Exception | None] = lambda job: None  # the error of a job, which fails its batch
    load_error: Exception | None = None
    fallback_reason: str | None = None
    hint: str | None = None
    card: Card = CARD
    engine_name: str = "fake"
    device: str = "cpu"
    precision: str = "fp32"
    precision_choice: PrecisionChoice = field(
        default_factory=lambda: PrecisionChoice("fp32", "a fake has no other")
    )
    version: str = "1"
    best_batch: int = 8
    memory: dict[str, int] = field(default_factory=dict)
    cuda_graphs: int = 0
    overlaps: bool = False  # the next batch is launched while one is computed
    batches: list[list[Any]] = field(default_factory=list)  # the jobs that reached the device
    prepared: list[tuple[int, int]] = field(default_factory=list)  # (height, width) of every decoded image
    rows: list[bytes] = field(default_factory=list)  # the first pixel row of every decoded image
    finds: Callable[[Any], int] = lambda job: len(FINDS)  # the number of FINDS in an image
    warm: threading.Event = field(default_factory=threading.Event)  # warm-up waits for it
    decode: threading.Event = field(default_factory=threading.Event)  # prepare waits for it
    free: threading.Event = field(default_factory=threading.Event)  # a batch waits for it

    def __post_init__(self) -> None:
        self.let_go()

    def let_go(self) -> None:
        """Set all events, so that everything blocked continues."""
        for gate in (self.warm, self.decode, self.free):
            gate.set()

    @property
    def reached(self) -> list[tuple[int, int]]:
        """(width, height) of every image that reached the device, in order."""
        return [job.canvas.image_size[::-1] for batch in self.batches for job in batch]

    def warm_up(self, cap: int) -> int:
        assert self.warm.wait(30)
        if self.load_error is not None:
            raise self.load_error
        return min(cap, self.best_batch)

    def memory_bytes(self) -> dict[str, int]:
        return self.memory

    def prepare(self, image: Image, size: int | None) -> FakeCanvas:
        self.prepared.append((image.height, image.width))
        self.rows.append(image.pixels[0].tobytes())
        assert self.decode.wait(30)
        time.sleep(self.decode_seconds)
        scale = (size or self.card.min_size) / min(image.height, image.width)
        height, width = round(image.height * scale), round(image.width * scale)
        key = (-(-height // 32) * 32, -(-width // 32) * 32)
        return FakeCanvas(key, (height, width), (image.height, image.width))

    def launch(self, jobs: Sequence[Any], observe: Callable[[str, float], None]) -> Any:
        return partial(self.detect, jobs, observe)

    def read(self, launched: Any) -> list[Detections]:
        found: list[Detections] = launched()
        return found

    def detect(self, jobs: Sequence[Any], observe: Callable[[str, float], None]) -> list[Detections]:
        assert len({job.canvas.key for job in jobs}) == 1, "a batch has one canvas size"
        self.batches.append(list(jobs))
        assert self.free.wait(30)
        time.sleep(self.seconds)
        for job in jobs:
            if (error := self.poison(job)) is not None:
                raise error
        observe("dense", self.seconds)
        observe("postprocess", 0.0)
        return [self._found(job) for job in jobs]

    def _found(self, job: Any) -> Detections:
        options, (height, width) = job.options, job.canvas.image_size
        kept = [
            (label, score, box)
            for label, score, box in FINDS
            if score >= options.score_threshold and (options.classes is None or label in options.classes)
        ][: min(options.max_detections, self.finds(job))]
        scale = np.array([width, height, width, height], np.float32)
        return Detections(
            boxes=np.array([box for _, _, box in kept], np.float32).reshape(-1, 4) * scale,
            labels=np.array([label for label, _, _ in kept], np.int64),
            scores=np.array([score for _, score, _ in kept], np.float32),
        )


@dataclass
class Dying(FakeDetector):
    """Fails on the thread of one device from its first batch on, or on those of all devices."""

    all_die: bool = False
    dead: set[int] = field(default_factory=set)
    fault: str = "CUDA error: unspecified launch failure"
    _first: threading.Lock = field(default_factory=threading.Lock)

    def detect(self, jobs: Sequence[Any], observe: Callable[[str, float], None]) -> list[Detections]:
        with self._first:
            if self.all_die or not self.dead:
                self.dead.add(threading.get_ident())
        found = super().detect(jobs, observe)
        if threading.get_ident() in self.dead:
            self.load_error = RuntimeError(self.fault)  # what its check raises
            raise RuntimeError(self.fault)
        return found

    def warm_up(self, cap: int) -> int:
        try:
            return super().warm_up(cap)
        finally:
            self.load_error = None


def picture(width: int = 64, height: int = 48, format: str = "PNG") -> bytes:
    """An image file with a gradient, so that no format can store it in a few bytes."""
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([across % 256, down % 256, (across * down) % 256], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    pillow.fromarray(pixels).save(file, format)
    return file.getvalue()

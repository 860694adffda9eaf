"""What every peer serves: torchvision's own forward as its users run it, or our detector (BENCH_ENGINE)."""

import io
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from models.detections import Detections
from models.detector import Detector, DetectorSpec, Job, load_detector
from models.images.decoder import Limits, Pixels, decode
from models.options import Options
from models.zoo.loading import load_network

MAX_BATCH = 8  # as RCNN_MAX_BATCH
BATCH_WAIT_MS = 10  # as in the peers' own examples
LIMITS = Limits(max_pixels=50_000_000)
FIELDS = ("boxes", "labels", "scores")

Answer = dict[str, Any]
Observe = Callable[[str, float], None]
"""Called with the name and seconds of each stage."""


def ignore(stage: str, seconds: float) -> None:
    """Observe nothing."""


class Model(Protocol):
    """Bytes to answers in two steps, as servers with stages need them."""

    def decode(self, data: bytes) -> Any:
        """One image, ready for a batch."""

    def predict(self, images: Sequence[Any], observe: Observe = ignore) -> list[Answer]:
        """Boxes, labels and scores of each image."""


class Eager:
    """torchvision's own forward: it resizes, batches and filters by itself."""

    def __init__(self, network: FasterRCNN, device: str = "cpu") -> None:
        self._network, self._device = network, device

    def decode(self, data: bytes) -> Tensor:
        """(3, H, W) float32, 0 to 1."""
        pixels = np.array(PillowImage.open(io.BytesIO(data)).convert("RGB"))
        return torch.from_numpy(pixels).permute(2, 0, 1).to(self._device).float() / 255

    @torch.inference_mode()
    def predict(self, images: Sequence[Tensor], observe: Observe = ignore) -> list[Answer]:
        """One forward for all of them."""
        return [
            {name: detections[name].cpu().tolist() for name in FIELDS}
            for detections in self._network(list(images))
        ]


class Ours:
    """Our detector with its card's options, but for another score threshold."""

    def __init__(self, detector: Detector, score_threshold: float) -> None:
        card, self._detector = detector.card, detector
        self._options = Options(score_threshold, card.nms_threshold, card.max_detections)

    def decode(self, data: bytes) -> Job:
        """The image's canvas with the options."""
        return Job(self._detector.prepare(decode(data, LIMITS)), self._options)

    def predict(self, images: Sequence[Job], observe: Observe = ignore) -> list[Answer]:
        """One batch; all images have one size, so they share a canvas."""
        return [
            {name: getattr(detections, name).tolist() for name in FIELDS}
            for detections in self._detector.detect(images, observe)
        ]


class Exported:
    """The file of `rcnn export` in its own runtime: it resizes by itself."""

    def __init__(self, run: Callable[[Sequence[Pixels]], Sequence[Detections]]) -> None:
        self._run = run

    def decode(self, data: bytes) -> Pixels:
        """(H, W, 3) uint8."""
        return decode(data, LIMITS).pixels

    def predict(self, images: Sequence[Pixels], observe: Observe = ignore) -> list[Answer]:
        """One run for all of them; they have one size."""
        return [
            {name: getattr(detections, name).tolist() for name in FIELDS} for detections in self._run(images)
        ]


def load(model: str, threads: int = 0) -> Detector:
    """The detector of a card, with the engine that the service would choose."""
    from app.settings.settings import Settings

    settings = Settings()
    cache = settings.cache_dir.expanduser()
    return load_detector(DetectorSpec(model, cache, precision=settings.precision, threads=threads))


def build() -> Model:
    """The model of BENCH_MODEL (a card) in BENCH_ENGINE, with BENCH_THREADS threads."""
    from app.settings.settings import Settings

    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
    model, cache = os.environ["BENCH_MODEL"], Settings().cache_dir.expanduser()
    if os.environ["BENCH_ENGINE"] == "ours":
        detector = load(model, torch.get_num_threads())
        detector.warm_up(1)
        return Ours(detector, detector.card.score_threshold)
    loaded = load_network(model, None, cache)
    card, network = loaded.card, loaded.network
    network.transform.min_size, network.transform.max_size = (card.min_size,), card.max_size
    heads = network.roi_heads
    heads.score_thresh, heads.nms_thresh = card.score_threshold, card.nms_threshold
    heads.detections_per_img = card.max_detections
    return Eager(network)

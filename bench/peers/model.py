"""What every peer serves: eager torchvision as its users run it, or our detector; BENCH_ENGINE says which."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor

from models.detections import Detections
from models.detector import DetectorSpec, Job, load_detector
from models.images.decoder import Limits, decode
from models.options import Options
from models.zoo.loading import load_network

MAX_BATCH = 8  # as RCNN_MAX_BATCH
BATCH_WAIT_MS = 10  # what the peers' own examples hold a batch for

Answer = dict[str, Any]


class Model(Protocol):
    """Bytes to answers in two steps, as servers with stages want them."""

    def decode(self, data: bytes) -> Any:
        """One image, ready for a batch."""

    def predict(self, images: Sequence[Any]) -> list[Answer]:
        """Boxes, labels and scores, an image each."""


def build() -> Model:
    """The model of BENCH_MODEL (a card) in BENCH_ENGINE, with as many threads as everybody has."""
    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
    model, cache = os.environ["BENCH_MODEL"], _cache()
    return Eager(model, cache) if os.environ["BENCH_ENGINE"] == "eager" else Ours(model, cache)


class Eager:
    """torchvision's own forward: it resizes, batches and filters by itself."""

    def __init__(self, model: str, cache: Path) -> None:
        loaded = load_network(model, None, cache)
        card, self._network = loaded.card, loaded.network
        transform, heads = self._network.transform, self._network.roi_heads
        transform.min_size, transform.max_size = (card.min_size,), card.max_size
        heads.score_thresh, heads.nms_thresh = card.score_threshold, card.nms_threshold
        heads.detections_per_img = card.max_detections

    def decode(self, data: bytes) -> Tensor:
        """(3, H, W) float32, 0 to 1."""
        pixels = np.array(PillowImage.open(io.BytesIO(data)).convert("RGB"))
        return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255

    @torch.inference_mode()
    def predict(self, images: Sequence[Tensor]) -> list[Answer]:
        """One forward for all of them."""
        return [
            {name: found[name].tolist() for name in ("boxes", "labels", "scores")}
            for found in self._network(list(images))
        ]


class Ours:
    """The same weights in our detector, with the engine that the service would choose."""

    def __init__(self, model: str, cache: Path) -> None:
        self._detector = load_detector(DetectorSpec(model, cache, threads=torch.get_num_threads()))
        card = self._detector.card
        self._options = Options(card.score_threshold, card.nms_threshold, card.max_detections)
        self._detector.warm_up(1)

    def decode(self, data: bytes) -> Job:
        """The image's canvas, with the card's options."""
        image = decode(data, Limits(max_pixels=50_000_000))
        return Job(self._detector.prepare(image), self._options)

    def predict(self, images: Sequence[Job]) -> list[Answer]:
        """One batch; the load's images are all of one size, so they share a canvas."""
        return [_answer(found) for found in self._detector.detect(images)]


def _answer(found: Detections) -> Answer:
    return {name: getattr(found, name).tolist() for name in ("boxes", "labels", "scores")}


def _cache() -> Path:
    from app.settings.settings import Settings

    return Settings().cache_dir.expanduser()

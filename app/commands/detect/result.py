"""What `rcnn detect` gets for one image, from the model in this process or from a service."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from app.schemas.options import DetectOptions
from models.detections import Detections


class ImageRefused(Exception):
    """A service refused this image; the next may be accepted."""

    def __init__(self, text: object, code: str) -> None:
        super().__init__(str(text))
        self.code = code


@dataclass(frozen=True, eq=False)
class ImageResult:
    """Detections of one image and their class names; its size in pixels as displayed."""

    detections: Detections
    names: tuple[str, ...]
    width: int
    height: int
    model: str
    model_version: str
    timings_ms: Mapping[str, float]
    request_id: str = ""

    def label_names(self) -> list[str]:
        """Names by label id (index = id) of the detected classes; "" for the others."""
        names = dict(zip(self.detections.labels.tolist(), self.names, strict=True))
        return [names.get(label, "") for label in range(max(names, default=0) + 1)]

    def to_dict(self) -> dict[str, Any]:
        """The response of POST /detect, as plain values."""
        return {
            "boxes": self.detections.boxes.astype(np.float64).round(3).tolist(),
            "labels": self.detections.labels.tolist(),
            "scores": self.detections.scores.astype(np.float64).round(6).tolist(),
            "names": list(self.names),
            "image": {"width": self.width, "height": self.height},
            "model": self.model,
            **({"model_version": self.model_version} if self.model_version else {}),
            "box_format": "xyxy",
            "timings_ms": dict(self.timings_ms),
            **({"request_id": self.request_id} if self.request_id else {}),
        }


class ImageDetector(Protocol):
    """A model in this process, or a service."""

    def detect(self, image: bytes, options: DetectOptions) -> ImageResult:
        """Detections of one image file; raises CommandFailed where the next image would fail too."""

    def labels(self) -> Mapping[int, str]:
        """Id to name of the classes."""

"""What was found in one image, as arrays; drawn, or as other libraries take it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.detections import Detections
from rcnn_client.errors import ClientError

if TYPE_CHECKING:
    import supervision

    from models.images.drawing import Drawing

MAX_DRAWN_PIXELS = 500_000_000  # of an image that the service has taken: no service takes a larger one


@dataclass(frozen=True, eq=False)
class Result:
    """Detections of one image, best first: boxes (N, 4) xyxy in pixels of the image as displayed."""

    detections: Detections
    names: tuple[str, ...]
    width: int
    height: int
    model: str
    timings_ms: Mapping[str, float]
    request_id: str = ""
    model_version: str = ""

    @property
    def boxes(self) -> npt.NDArray[np.float32]:
        """(N, 4) float32, x1 y1 x2 y2 in pixels."""
        return self.detections.boxes

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """(N,) int64 class ids."""
        return self.detections.labels

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """(N,) float32, descending."""
        return self.detections.scores

    def __len__(self) -> int:
        return len(self.detections)

    def draw(self, image: bytes | str | os.PathLike[str] | npt.NDArray[np.uint8]) -> "Drawing":
        """A Pillow image: `image` (a file, its bytes, or RGB pixels uint8 (H, W, 3)) with the boxes drawn on.

        One below 320 pixels is enlarged. Raises ValueError for an image that is not the one detected in.
        """
        from models.images.decoder import Image, Limits, decode
        from models.images.drawing import draw

        if isinstance(image, np.ndarray):
            picture = Image(np.ascontiguousarray(image), "RAW")
        else:
            data = image if isinstance(image, bytes) else Path(image).read_bytes()
            picture = decode(data, Limits(MAX_DRAWN_PIXELS))
        if (picture.width, picture.height) != (self.width, self.height):
            raise ValueError(
                f"the image is {picture.width}x{picture.height}, the detections are of one of "
                f"{self.width}x{self.height}; pass the image that was sent"
            )
        return draw(picture, self.detections, self.label_names())

    def to_supervision(self) -> "supervision.Detections":
        """As `supervision.Detections`, with the names in `data["class_name"]`; needs supervision."""
        import supervision

        return supervision.Detections(
            xyxy=self.boxes.copy(),
            confidence=self.scores.copy(),
            class_id=self.labels.copy(),
            data={"class_name": np.array(self.names, dtype=str)},
        )

    def label_names(self) -> list[str]:
        """Names by label id (index = id), of the classes found; "" for the others."""
        names = {int(label): name for label, name in zip(self.labels, self.names, strict=True)}
        return [names.get(label, "") for label in range(max(names, default=0) + 1)]

    def to_dict(self) -> dict[str, Any]:
        """The answer of POST /detect, as plain values."""
        return {
            "boxes": self.boxes.astype(np.float64).round(3).tolist(),
            "labels": self.labels.tolist(),
            "scores": self.scores.astype(np.float64).round(6).tolist(),
            "names": list(self.names),
            "image": {"width": self.width, "height": self.height},
            "model": self.model,
            **({"model_version": self.model_version} if self.model_version else {}),
            "box_format": "xyxy",
            "timings_ms": dict(self.timings_ms),
            **({"request_id": self.request_id} if self.request_id else {}),
        }


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a stream: its number, its time in seconds if it has one, and its detections or why not."""

    index: int
    seconds: float | None
    outcome: Result | ClientError

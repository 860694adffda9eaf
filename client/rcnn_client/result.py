"""The detections of one image as arrays; drawn, or in another library's form."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rcnn_client.errors import ClientError

if TYPE_CHECKING:
    import supervision
    from PIL import Image


@dataclass(frozen=True, eq=False)
class Result:
    """N >= 0 detections of one image, highest score first; the arrays are read-only copies.

    boxes: (N, 4) float32, x1 y1 x2 y2 in pixels of the image as displayed. labels: (N,) int64 class ids.
    scores: (N,) float32. Raises ValueError for unequal lengths or a number that is not finite.
    """

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    names: tuple[str, ...]
    width: int
    height: int
    model: str
    timings_ms: Mapping[str, float]
    request_id: str = ""
    model_version: str = ""

    def __post_init__(self) -> None:
        count = len(self.names)
        for name, dtype, shape in (
            ("boxes", np.float32, (count, 4)),
            ("labels", np.int64, (count,)),
            ("scores", np.float32, (count,)),
        ):
            array = np.array(getattr(self, name), dtype)
            if array.size == 0 and count == 0:
                array = array.reshape(shape)
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"{name} must be {shape} finite numbers, with {count} names")
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.scores)

    def draw(self, image: bytes | str | os.PathLike[str] | npt.NDArray[np.uint8]) -> "Image.Image":
        """A Pillow image: `image` (a file, its bytes, or RGB pixels uint8 (H, W, 3)) with the boxes drawn on.

        An image below 320 pixels is enlarged. Raises ValueError for an image of another size; needs pillow.
        """
        from rcnn_client.drawing import draw

        columns = (self.names, self.labels.tolist(), self.scores.tolist(), self.boxes.tolist())
        return draw(image, (self.width, self.height), list(zip(*columns, strict=True)))

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
        """Names by label id (index = id) of the detected classes; "" for the others."""
        names = {int(label): name for label, name in zip(self.labels, self.names, strict=True)}
        return [names.get(label, "") for label in range(max(names, default=0) + 1)]

    def to_dict(self) -> dict[str, Any]:
        """The response of POST /detect, as plain values."""
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
    """One frame of a stream: its number, its time in seconds if it has one, and its detections or error."""

    index: int
    seconds: float | None
    outcome: Result | ClientError

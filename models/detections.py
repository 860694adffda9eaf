"""Detections of an image: boxes, labels and scores; and the box formats."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

BoxFormat = Literal["xyxy", "xywh", "cxcywh"]
BOX_FORMATS: tuple[BoxFormat, ...] = get_args(BoxFormat)


@dataclass(frozen=True, eq=False)
class Detections:
    """N >= 0 objects, by score, descending; the arrays are read-only copies.

    boxes float32 (N, 4): x1, y1, x2, y2 in pixels of the image as displayed. labels int64 (N,): label ids.
    scores float32 (N,). Raises ValueError for another dtype or shape, or a number that is not finite.
    """

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        count = self.scores.shape[0] if self.scores.ndim else 0
        object.__setattr__(self, "boxes", _frozen("boxes", self.boxes, np.float32, (count, 4)))
        object.__setattr__(self, "labels", _frozen("labels", self.labels, np.int64, (count,)))
        object.__setattr__(self, "scores", _frozen("scores", self.scores, np.float32, (count,)))

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> "Detections":
        """No objects."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))


def _frozen(name: str, array: npt.NDArray[Any], dtype: type, shape: Sequence[int]) -> npt.NDArray[Any]:
    """A read-only copy of the checked array."""
    if array.dtype != dtype or array.shape != shape:
        must_be = f"{np.dtype(dtype)} {shape}"
        raise ValueError(
            f"{name} are {array.dtype} {array.shape}; with {shape[0]} scores they must be {must_be}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} contain a number that is not finite; drop such objects first")
    copy = array.copy()
    copy.setflags(write=False)
    return copy


def convert_boxes(
    boxes: npt.NDArray[np.float32], box_format: BoxFormat, size: tuple[int, int] | None
) -> npt.NDArray[np.float32]:
    """Convert boxes (N, 4) from xyxy pixels; with a `size` (width, height), to fractions of it.

    xywh is the upper left corner and the size, cxcywh the centre and the size.
    """
    if box_format not in BOX_FORMATS:
        raise ValueError(f"box format {box_format!r} is unknown; allowed are {', '.join(BOX_FORMATS)}")
    if size is not None and min(size) < 1:
        raise ValueError(f"size is {size}; width and height must be at least 1 pixel")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes are {boxes.shape}; they must be (N, 4)")
    converted = (boxes / np.array((*size, *size), np.float32) if size else boxes).astype(np.float32)
    if box_format != "xyxy":
        converted[:, 2:] -= converted[:, :2]
    if box_format == "cxcywh":
        converted[:, :2] += converted[:, 2:] / 2
    return converted

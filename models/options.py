"""What one request asks of the detector, beside its image."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from models.regions import Regions


@dataclass(frozen=True)
class Options:
    """Thresholds of one request: scores and overlaps in 0..1, classes as label ids, None for all of them."""

    score_threshold: float
    nms_threshold: float
    max_detections: int
    classes: frozenset[int] | None = None
    class_agnostic: bool = False
    min_area: float = 0.0  # px² of the displayed image; smaller boxes are left out after NMS
    roi: Regions | None = None  # boxes whose centre is elsewhere are left out after NMS

    @classmethod
    def resolve(cls, requested: Mapping[str, Any], card: object) -> "Options":
        """Each option by its name: as requested, else as on the card, else the default; None is not given."""
        values = {}
        for field in fields(cls):
            value = requested.get(field.name)
            value = getattr(card, field.name, None) if value is None else value
            if value is not None:
                values[field.name] = value
        return cls(**values)

    @property
    def drops_boxes(self) -> bool:
        """Whether boxes may be left out after NMS, before `max_detections` applies."""
        return bool(self.min_area) or self.roi is not None

    def kept(self, boxes: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """Mask of the boxes (N, 4) xyxy px that are not left out; `size`: the image's (width, height)."""
        mask: npt.NDArray[np.bool_] = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) >= self.min_area
        return mask if self.roi is None else mask & self.roi.contain(boxes, size)

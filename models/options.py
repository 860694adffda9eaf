"""What one request asks of the detector, beside its image."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Options:
    """Thresholds of one request: scores and overlaps in 0..1, classes as label ids, None for all of them."""

    score_threshold: float
    nms_threshold: float
    max_detections: int
    classes: frozenset[int] | None = None
    class_agnostic: bool = False
    min_area: float = 0.0  # px² of the displayed image; smaller boxes are left out after NMS

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

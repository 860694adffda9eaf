"""What one request asks of the detector, beyond its image."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Thresholds of one request: scores and overlaps in 0..1, classes as label ids, None for all of them."""

    score_threshold: float
    nms_threshold: float
    max_detections: int
    classes: frozenset[int] | None = None
    class_agnostic: bool = False

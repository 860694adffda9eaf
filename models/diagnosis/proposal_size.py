"""Do proposals have the size of their objects? If not, the weights were trained with other anchors.

The RPN moves and scales an anchor in units of the anchor's size: with another anchor at the same position
the proposal has the right centre and the wrong size.
"""

from collections.abc import Sequence

import numpy as np

from models.diagnosis.finding import share
from models.diagnosis.inspection import Boxes, InspectedImage
from models.evaluation.curves import MATCHING_IOU, overlaps

FIRST = 50  # proposals; among many more there is one of any size
FACTORS = (0.25, 0.5, 0.71, 1.0, 1.41, 2.0, 4.0)
LEAST, MARGIN = 0.3, 1.25  # share of objects that must match after resizing, and its ratio to the share now


def measure_size_factors(images: Sequence[InspectedImage]) -> dict[float, float]:
    """Share of the objects that the first proposals match at IoU 0.5, by the factor they are resized by."""
    objects = sum(len(image.objects) for image in images)
    return {factor: share(sum(_matched(image, factor) for image in images), objects) for factor in FACTORS}


def _matched(image: InspectedImage, factor: float) -> int:
    ious = overlaps(_resized(image.proposals[:FIRST], factor), image.objects)
    return int(np.count_nonzero(ious.max(axis=0, initial=0.0) >= MATCHING_IOU))


def _resized(boxes: Boxes, factor: float) -> Boxes:
    """Boxes `factor` times as large, with the same centres."""
    centres, halves = (
        (boxes[:, :2] + boxes[:, 2:]) / 2,
        (boxes[:, 2:] - boxes[:, :2]) / 2 * np.float32(factor),
    )
    return np.concatenate([centres - halves, centres + halves], axis=1)


def best_factor(shares: dict[float, float]) -> float | None:
    """The factor by which proposals should be resized; None if they have the size of their objects."""
    best = max(shares, key=lambda factor: (shares[factor], factor == 1.0))
    return best if shares[best] >= LEAST and shares[best] > MARGIN * shares[1.0] else None

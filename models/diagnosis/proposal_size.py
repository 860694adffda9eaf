"""Are proposals as large as their objects? If not, the weights learned with other anchors.

The RPN says how to move and stretch an anchor, in parts of the anchor: at the right place, another anchor
gives a proposal with the right centre and the wrong size.
"""

from collections.abc import Sequence

import numpy as np

from models.diagnosis.finding import share
from models.diagnosis.observation import Boxes, Observation
from models.evaluation.curves import MATCHING_IOU, overlaps

FIRST = 50  # proposals: among many more, one of any size lies somewhere
FACTORS = (0.25, 0.5, 0.71, 1.0, 1.41, 2.0, 4.0)
LEAST, MARGIN = 0.3, 1.25  # share that must be met at another size, and how many times more than now


def measure_stretch(observations: Sequence[Observation]) -> dict[float, float]:
    """Share of the objects that the first proposals meet, by the factor that these are resized by."""
    objects = sum(len(one.objects) for one in observations)
    return {factor: share(sum(_met(one, factor) for one in observations), objects) for factor in FACTORS}


def _met(one: Observation, factor: float) -> int:
    ious = overlaps(_resized(one.proposals[:FIRST], factor), one.objects)
    return int(np.count_nonzero(ious.max(axis=0, initial=0.0) >= MATCHING_IOU))


def _resized(boxes: Boxes, factor: float) -> Boxes:
    """Boxes `factor` times as large on their own centres."""
    centres, halves = (
        (boxes[:, :2] + boxes[:, 2:]) / 2,
        (boxes[:, 2:] - boxes[:, :2]) / 2 * np.float32(factor),
    )
    return np.concatenate([centres - halves, centres + halves], axis=1)


def misfit(shares: dict[float, float]) -> float | None:
    """The factor that proposals should be resized by; None where they are as large as their objects."""
    best = max(shares, key=lambda factor: (shares[factor], factor == 1.0))
    return best if shares[best] >= LEAST and shares[best] > MARGIN * shares[1.0] else None

"""Compares an exported model's detections with ours, one to one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.detections import Detections

NEAR_PX, NEAR_SCORE = 0.05, 1e-3  # largest difference of a pair
MOST_DIFFERENT = 0.02  # share of detections without a partner: decisions of NMS that rounding may turn


@dataclass(frozen=True)
class Agreement:
    """Detections of both sides, how many are pairs, and the largest differences within a pair."""

    ours: int
    theirs: int
    pairs: int
    px: float = 0.0
    score: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether all but a few are pairs."""
        most = max(self.ours, self.theirs)
        return most - self.pairs <= MOST_DIFFERENT * most


def compare(ours: Sequence[Detections], theirs: Sequence[Detections]) -> Agreement:
    """The agreement over several images."""
    each = [_compare_image(*pair) for pair in zip(ours, theirs, strict=True)]
    return Agreement(
        ours=sum(one.ours for one in each),
        theirs=sum(one.theirs for one in each),
        pairs=sum(one.pairs for one in each),
        px=max(one.px for one in each),
        score=max(one.score for one in each),
    )


def _compare_image(ours: Detections, theirs: Detections) -> Agreement:
    """Each of ours takes the nearest one that is near enough and free."""
    free = np.ones(len(theirs), bool)
    px, score = [0.0], [0.0]
    for box, label, value in zip(ours.boxes, ours.labels, ours.scores, strict=True):
        near = free & (theirs.labels == label) & (np.abs(theirs.scores - value) < NEAR_SCORE)
        distances = np.where(near, np.abs(theirs.boxes - box).max(axis=1, initial=0.0), np.inf)
        nearest = int(distances.argmin()) if len(distances) else -1
        if nearest >= 0 and distances[nearest] < NEAR_PX:
            free[nearest] = False
            px.append(float(distances[nearest]))
            score.append(abs(float(theirs.scores[nearest] - value)))
    return Agreement(len(ours), len(theirs), len(px) - 1, max(px), max(score))

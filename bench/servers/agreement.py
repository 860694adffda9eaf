"""Whether two servers answer one image alike."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from models.evaluation.curves import overlaps

SAME_BOX, SAME_SCORE = 0.05, 1e-3  # px and score: what parity with torchvision allows
MATCHING_IOU = 0.9

Answer = Mapping[str, Any]


def agreement(theirs: Answer | None, ours: Answer | None) -> str:
    """ "same", or how many detections have a counterpart of their class at IoU 0.9; empty without answers."""
    if not theirs or not ours:
        return ""
    pairs = _pairs(theirs, ours)
    most = max(len(theirs["boxes"]), len(ours["boxes"]))
    near = [
        np.abs(np.subtract(theirs["boxes"][a], ours["boxes"][b])).max() <= SAME_BOX
        and abs(theirs["scores"][a] - ours["scores"][b]) <= SAME_SCORE
        for a, b in pairs
    ]
    return "same" if len(pairs) == most and all(near) else f"{len(pairs)} of {most}"


def _pairs(theirs: Answer, ours: Answer) -> list[tuple[int, int]]:
    """Indices of detections that match, each used once."""
    if not theirs["boxes"] or not ours["boxes"]:
        return []
    boxes = (np.array(answer["boxes"], np.float32) for answer in (theirs, ours))
    iou = overlaps(*boxes)
    iou[np.array(theirs["labels"])[:, None] != np.array(ours["labels"])[None, :]] = 0.0
    found: list[tuple[int, int]] = []
    while (best := iou.max()) >= MATCHING_IOU:
        row, column = (int(index) for index in np.argwhere(iou == best)[0])
        found.append((row, column))
        iou[row, :], iou[:, column] = 0.0, 0.0
    return found

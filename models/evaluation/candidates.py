"""Candidates: the detections before NMS, from which an NMS threshold is chosen."""

import torch
from torchvision.ops import batched_nms

from models.detections import Detections
from models.evaluation.predictions import MOST_DETECTIONS

MAX_PROPOSALS = 1000  # an image
KEEP_ALL = 1.0  # an NMS threshold that suppresses nothing: IoU is never higher


def suppress(candidates: Detections, nms_threshold: float) -> Detections:
    """The candidates after NMS within each class, as the detector does it; at most MOST_DETECTIONS."""
    boxes, scores, labels = (
        torch.from_numpy(array.copy()) for array in (candidates.boxes, candidates.scores, candidates.labels)
    )
    kept = batched_nms(boxes, scores, labels, nms_threshold)[:MOST_DETECTIONS].numpy()
    return Detections(candidates.boxes[kept], candidates.labels[kept], candidates.scores[kept])

"""What a model finds before its NMS: the candidates that a threshold is chosen from."""

import torch
from torchvision.ops import batched_nms

from models.detections import Detections
from models.evaluation.answers import MOST_DETECTIONS

MOST_PROPOSALS = 1000


KEEP_ALL = 1.0  # no two boxes overlap by more: an NMS threshold that suppresses nothing


def suppress(candidates: Detections, nms_threshold: float) -> Detections:
    """NMS within each class, as the detector does it, and at most as many detections as COCO counts."""
    boxes, scores, labels = (
        torch.from_numpy(array.copy()) for array in (candidates.boxes, candidates.scores, candidates.labels)
    )
    kept = batched_nms(boxes, scores, labels, nms_threshold)[:MOST_DETECTIONS].numpy()
    return Detections(candidates.boxes[kept], candidates.labels[kept], candidates.scores[kept])

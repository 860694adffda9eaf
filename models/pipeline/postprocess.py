"""Class logits and box deltas to detections; applies each request's options before any NMS."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_area, clip_boxes_to_image, remove_small_boxes

from models.detections import Detections
from models.engines.protocol import DenseOutput
from models.ops.nms import Suppress, torchvision_nms
from models.options import Options
from models.pipeline.canvas import Canvas
from models.zoo.sections import EmptyBoxes

SMALLEST_DETECTION = 1e-2  # canvas px; torchvision's `RoIHeads.postprocess_detections`


class NonFiniteOutputs(ValueError):
    """The network's raw outputs for an image hold NaN or infinity: an overflow, not "nothing found"."""

    def __init__(self, images: int, of: int) -> None:
        super().__init__(
            f"the network's outputs for {images} of {of} images are not finite (NaN or infinite); set "
            "RCNN_PRECISION to fp32 if it is a half precision, else get the weights again or train again"
        )


@dataclass(frozen=True, eq=False)
class Candidates:
    """The head's output for one image: proposals (R, 4) canvas px, logits (R, K), deltas (R, 4K)."""

    proposals: Tensor
    logits: Tensor
    deltas: Tensor

    def checksum(self) -> Tensor:
        """A scalar on the device: NaN or infinite if any of the logits and deltas is."""
        return self.logits.sum() + self.deltas.sum()


def dense_checksums(dense: DenseOutput) -> Tensor:
    """A number for each image, (B,): NaN or infinite if any of its RPN outputs is."""
    return torch.stack([level.sum((1, 2, 3)) for level in (*dense.objectness, *dense.deltas)]).sum(0)


def postprocess(
    candidates: Candidates,
    canvas: Canvas,
    options: Options,
    coder: BoxCoder,
    suppress: Suppress = torchvision_nms,
) -> Detections:
    """One image's detections: `select`, then `collect`."""
    selected = select(candidates, canvas, options, coder, suppress)
    [detections] = collect([selected], candidates.checksum()[None])
    return detections


def select(
    candidates: Candidates,
    canvas: Canvas,
    options: Options,
    coder: BoxCoder,
    suppress: Suppress,
    empty_boxes: EmptyBoxes = "drop_first",
) -> Tensor:
    """One image's detections on its device, (N, 6): box xyxy in image px, label, score; best first.

    In torchvision's order: softmax, floor, classes, decode, clip, NMS, (minimum area,) top-k.
    """
    scores = F.softmax(candidates.logits, dim=-1)
    rows, labels = torch.where(_mask(scores, options))
    boxes = _decode(candidates, rows, labels, coder)
    boxes = clip_boxes_to_image(boxes, canvas.content)
    keep = remove_small_boxes(boxes, SMALLEST_DETECTION if empty_boxes == "drop_first" else 0.0)
    boxes, kept_scores, labels = boxes[keep], scores[rows[keep], labels[keep]], labels[keep]
    groups = torch.zeros_like(labels) if options.class_agnostic else labels
    best = suppress(boxes, kept_scores, groups, options.nms_threshold)
    if options.min_area:
        best = best[box_area(canvas.to_image(boxes[best])) >= options.min_area]
    best = best[: options.max_detections]
    if empty_boxes == "drop_last":
        best = best[box_area(boxes[best]) > 0]
    answer = labels[best, None].to(boxes.dtype), kept_scores[best, None]  # a float holds every label exactly
    return torch.cat([canvas.to_image(boxes[best]), *answer], dim=1)


def collect(answers: Sequence[Tensor], checksums: Tensor) -> list[Detections]:
    """The results of `select` as Detections, with a single copy from the device.

    `checksums` (B,): raises NonFiniteOutputs if that of an image is NaN or infinite.
    """
    parts = [*answers, checksums[:, None].expand(-1, 6)]
    *rows, sums = torch.split(torch.cat(parts).cpu(), [len(part) for part in parts])
    if (faulty := int((~torch.isfinite(sums[:, 0])).sum())) > 0:
        raise NonFiniteOutputs(faulty, len(rows))
    return [
        Detections(
            boxes=row[:, :4].numpy(),
            labels=row[:, 4].to(torch.int64).numpy(),
            scores=row[:, 5].numpy(),
        )
        for row in rows
    ]


def _mask(scores: Tensor, options: Options) -> Tensor:
    """Mask (R, K) of scores above the threshold in the requested classes, without the background."""
    mask = scores > options.score_threshold
    mask[:, 0] = False
    if options.classes is not None:
        others = [label for label in range(scores.shape[1]) if label not in options.classes]
        mask[:, others] = False
    return mask


def _decode(candidates: Candidates, rows: Tensor, labels: Tensor, coder: BoxCoder) -> Tensor:
    """Boxes (M, 4) canvas px of the selected (proposal, class) pairs."""
    deltas = candidates.deltas.view(*candidates.logits.shape, 4)
    boxes: Tensor = coder.decode_single(deltas[rows, labels], candidates.proposals[rows])
    return boxes

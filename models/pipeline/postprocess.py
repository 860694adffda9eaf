"""Class logits and box deltas to detections; applies each request's options before any NMS."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_area

from models.detections import Detections
from models.ops.box_coding import centres_and_sizes, clip, decode
from models.ops.nms import Suppress, torchvision_nms
from models.options import Options
from models.pipeline.canvas import Placed
from models.pipeline.request_table import RequestTable, request_table
from models.pipeline.rows import Answers, Decoded, Proposals, Shapes
from models.pipeline.trimmed import Trimmed
from models.zoo.sections import EmptyBoxes


@dataclass(frozen=True, eq=False)
class Candidates:
    """The head's output for one image: proposals (R, 4) canvas px, logits (R, K), deltas (R, 4K)."""

    proposals: Tensor
    logits: Tensor
    deltas: Tensor


@dataclass(frozen=True, eq=False)
class HeadOutput:
    """The head's output for a batch: logits (R, K) and deltas (R, 4K) of the proposals."""

    proposals: Proposals
    logits: Tensor
    deltas: Tensor


def postprocess(
    candidates: Candidates,
    canvas: Placed,
    options: Options,
    coder: BoxCoder,
    suppress: Suppress = torchvision_nms,
    empty_boxes: EmptyBoxes = "drop_first",
) -> Detections:
    """One image's detections, from as many candidates as there are. Raises NonFiniteOutputs."""
    boxes, logits = candidates.proposals, candidates.logits
    table = request_table([canvas.content], [options], logits.shape[1], lambda rows: rows.to(logits.device))
    images = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    output = HeadOutput(Proposals(boxes, images), logits, candidates.deltas)
    [rows] = select(output, table, coder, Trimmed(suppress, empty_boxes)).read() or []
    return collect(rows, canvas, options, empty_boxes)


def select(output: HeadOutput, table: RequestTable, coder: BoxCoder, shapes: Shapes) -> Answers:
    """The batch's detections on its device, in torchvision's order: softmax, floor, decode, clip, NMS."""
    return shapes.suppress(_decode(output, table, coder, shapes), output.proposals, table)


def _decode(output: HeadOutput, table: RequestTable, coder: BoxCoder, shapes: Shapes) -> Decoded:
    proposals, classes = output.proposals, output.logits.shape[1]
    candidates = shapes.choose(F.softmax(output.logits, dim=-1), proposals, table)
    groups = len(candidates.index)
    labels, rows = candidates.index % classes, candidates.index // classes
    deltas, references = (
        values.reshape(groups, -1, 4).gather(1, index[..., None].expand(-1, -1, 4))
        for values, index in ((output.deltas, candidates.index), (proposals.boxes, rows))
    )
    boxes = clip(decode(deltas, *centres_and_sizes(references), coder), candidates.limits)
    return Decoded(boxes, labels, rows, candidates.scores, _checksums(output, len(table.options), shapes))


def _checksums(output: HeadOutput, images: int, shapes: Shapes) -> tuple[Tensor, ...]:
    proposals = output.proposals
    of_head = (shapes.checksum(values, proposals, images) for values in (output.logits, output.deltas))
    return *proposals.checksums, *of_head


def collect(
    rows: Tensor, canvas: Placed, options: Options, empty_boxes: EmptyBoxes = "drop_first"
) -> Detections:
    """An image's detections from those after NMS (N, 6) on the host: area and region, top-k, image pixels."""
    boxes = canvas.to_image(rows[:, :4])
    if options.drops_boxes:
        height, width = canvas.image_size
        kept = torch.from_numpy(options.kept(boxes.numpy(), (width, height)))
        boxes, rows = boxes[kept], rows[kept]
    boxes, best = boxes[: options.max_detections], rows[: options.max_detections]
    if empty_boxes == "drop_last":
        filled = box_area(best[:, :4]) > 0
        boxes, best = boxes[filled], best[filled]
    return Detections(
        boxes=boxes.numpy(),
        labels=best[:, 4].to(torch.int64).numpy(),
        scores=best[:, 5].numpy(),
    )


def collect_all(
    images: Sequence[Tensor],
    canvases: Sequence[Placed],
    options: Sequence[Options],
    empty_boxes: EmptyBoxes = "drop_first",
) -> list[Detections]:
    """`collect` for each image of a batch."""
    return [collect(*image, empty_boxes) for image in zip(images, canvases, options, strict=True)]

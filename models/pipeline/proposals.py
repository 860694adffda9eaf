"""RPN outputs to proposals: top-k per level, decode, clip, drop small, NMS (Ren et al. 2015, §3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import clip_boxes_to_image

from models.engines.protocol import DenseOutput
from models.ops.nms import Suppress, torchvision_nms
from models.zoo.sections import RankBy

CACHED_CANVASES = 64  # canvas keys whose anchors are cached; 64 keys cover every aspect ratio at one size


@dataclass(frozen=True, eq=False)
class ProposalConfig:
    """The RPN's parameters at inference, read from the network."""

    anchors: AnchorGenerator
    coder: BoxCoder
    pre_nms: int
    post_nms: int
    nms_threshold: float
    score_threshold: float
    min_size: float  # shortest side of a proposal, canvas px
    rank_by: RankBy = "both"


def proposal_config(network: FasterRCNN) -> ProposalConfig:
    """The proposal stage of `network` in eval mode."""
    rpn = network.rpn.eval()
    return ProposalConfig(
        anchors=rpn.anchor_generator,
        coder=rpn.box_coder,
        pre_nms=rpn.pre_nms_top_n(),
        post_nms=rpn.post_nms_top_n(),
        nms_threshold=rpn.nms_thresh,
        score_threshold=rpn.score_thresh,
        min_size=rpn.min_size,
        rank_by=getattr(rpn, "rank_by", "both"),  # torchvision's own has none
    )


class Proposer:
    """Turns RPN outputs into proposals; caches the anchors of canvas sizes."""

    def __init__(self, config: ProposalConfig, suppress: Suppress = torchvision_nms) -> None:
        self._config = config
        self._suppress = suppress
        self._anchors = lru_cache(CACHED_CANVASES)(self._make_anchors)

    def __call__(
        self, dense: DenseOutput, canvas: tuple[int, int], contents: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """Proposals (N, 4) xyxy canvas px of each image, best first, clipped to its (height, width)."""
        anchors = self.anchors(dense, canvas)
        levels = [self._best(*level) for level in zip(dense.objectness, dense.deltas, anchors, strict=True)]
        logits, deltas, picked = (torch.cat(parts, dim=1) for parts in zip(*levels, strict=True))
        boxes = self._config.coder.decode_single(deltas.view(-1, 4), picked.view(-1, 4)).view_as(picked)
        level = torch.cat([part[0].new_full(part[0].shape, k) for k, (part, *_) in enumerate(levels)]).long()
        return [self._filter(boxes[k], logits[k], level, content) for k, content in enumerate(contents)]

    def anchors(self, dense: DenseOutput, canvas: tuple[int, int]) -> list[Tensor]:
        """The anchors (A, 4) of each level, xyxy canvas px."""
        shapes = tuple((level.shape[-2], level.shape[-1]) for level in dense.objectness)
        return self._anchors(canvas, shapes, dense.objectness[0].device)

    def _make_anchors(
        self, canvas: tuple[int, int], shapes: tuple[tuple[int, int], ...], device: torch.device
    ) -> list[Tensor]:
        generator = self._config.anchors
        strides = [
            [torch.tensor(canvas[0] // h, device=device), torch.tensor(canvas[1] // w, device=device)]
            for h, w in shapes
        ]
        generator.set_cell_anchors(torch.float32, device)
        return list(generator.grid_anchors([list(shape) for shape in shapes], strides))

    def _best(self, objectness: Tensor, deltas: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The level's top logits (B, k), with their deltas and anchors (B, k, 4)."""
        batch, per_place, height, width = objectness.shape
        logits = objectness.permute(0, 2, 3, 1).reshape(batch, -1)
        rows = deltas.view(batch, per_place, 4, height, width).permute(0, 3, 4, 1, 2).reshape(batch, -1, 4)
        best, index = _best_logits(logits, min(self._config.pre_nms, logits.shape[1]), self._config.rank_by)
        return best, rows.gather(1, index[..., None].expand(-1, -1, 4)), anchors[index]

    def _filter(self, boxes: Tensor, logits: Tensor, level: Tensor, content: tuple[int, int]) -> Tensor:
        """One image's proposals from its decoded boxes (k, 4), logits (k,) and levels (k,)."""
        config = self._config
        boxes = clip_boxes_to_image(boxes, content)
        sides = boxes[:, 2:] - boxes[:, :2]
        large = (sides >= config.min_size).all(dim=1)
        scores = logits.sigmoid()
        keep = torch.where(large & (scores >= config.score_threshold))[0]
        if config.rank_by == "logits":
            scores = logits - logits.min() + 1.0  # positive, as an engine's NMS may require
        best = self._suppress(boxes[keep], scores[keep], level[keep], config.nms_threshold)[: config.post_nms]
        return boxes[keep[best]]


def _best_logits(logits: Tensor, count: int, rank_by: RankBy) -> tuple[Tensor, Tensor]:
    """The best logits (B, count) and their indices; by score, the first of those that round to the same."""
    if rank_by != "scores":
        best, index = logits.topk(count, dim=1)
        return best, index
    index = logits.sigmoid().sort(dim=1, descending=True, stable=True).indices[:, :count]
    return logits.gather(1, index), index

"""RPN outputs to proposals: top-k per level, decode, clip, drop small, NMS (Ren et al. 2015, §3)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator

from models.engines.protocol import DenseOutput
from models.ops.box_coding import centres_and_sizes, clip, decode
from models.pipeline.rows import Proposals, Ranking, RPNLimits, Shapes
from models.pipeline.trimmed import Trimmed
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

    @property
    def limits(self) -> RPNLimits:
        """What is ranked, and what is kept of it."""
        return RPNLimits(
            self.pre_nms, self.post_nms, self.nms_threshold, self.score_threshold, self.min_size, self.rank_by
        )


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

    def __init__(self, config: ProposalConfig, shapes: Shapes | None = None) -> None:
        """`shapes` trims proposals to their number, as by default, or pads them."""
        self._config = config
        self._shapes = shapes or Trimmed()
        self._references = lru_cache(CACHED_CANVASES)(self._make_references)

    def __call__(
        self, dense: DenseOutput, canvas: tuple[int, int], contents: Sequence[tuple[int, int]]
    ) -> list[Tensor]:
        """Proposals (N, 4) xyxy canvas px of each image, best first, clipped to its (height, width)."""
        limits = [(width, height, width, height) for height, width in contents]
        device = dense.objectness[0].device
        proposals = self.propose(dense, canvas, torch.tensor(limits, dtype=torch.float32, device=device))
        return [proposals.boxes[proposals.images == k] for k in range(len(contents))]

    def propose(
        self, dense: DenseOutput, canvas: tuple[int, int], limits: Tensor, shapes: Shapes | None = None
    ) -> Proposals:
        """Proposals of the batch, clipped to `limits` (B, 4), each image's best first."""
        shapes = shapes or self._shapes
        rpn_limits = self._config.limits
        best = shapes.rank(dense, rpn_limits)
        references = self._references(canvas, *_places(dense))[best.index]
        boxes = decode(best.deltas, references[..., :2], references[..., 2:], self._config.coder)
        boxes = clip(boxes, limits[:, None])
        sizes, scores = boxes[..., 2:] - boxes[..., :2], best.logits.sigmoid()
        ranking = Ranking(boxes, sizes, scores, best.logits, best.counts)
        return replace(shapes.propose(ranking, rpn_limits), checksums=(best.checksum,))

    def anchors(self, dense: DenseOutput, canvas: tuple[int, int]) -> list[Tensor]:
        """The anchors (A, 4) of each level, xyxy canvas px."""
        return self._make_anchors(canvas, *_places(dense))

    def _make_anchors(
        self, canvas: tuple[int, int], shapes: tuple[tuple[int, int], ...], device: torch.device
    ) -> list[Tensor]:
        """Made where the generator is, then copied: detectors of other devices share it."""
        strides = [
            [torch.tensor(side // count) for side, count in zip(canvas, shape, strict=True)]
            for shape in shapes
        ]
        levels = self._config.anchors.grid_anchors([list(shape) for shape in shapes], strides)
        return [level.to(device, torch.float32) for level in levels]

    def _make_references(
        self, canvas: tuple[int, int], shapes: tuple[tuple[int, int], ...], device: torch.device
    ) -> Tensor:
        """Centres and sizes (A, 4) of all levels' anchors."""
        anchors = torch.cat(self._make_anchors(canvas, shapes, device))
        return torch.cat(centres_and_sizes(anchors), dim=1)


def _places(dense: DenseOutput) -> tuple[tuple[tuple[int, int], ...], torch.device]:
    shapes = tuple((level.shape[-2], level.shape[-1]) for level in dense.objectness)
    return shapes, dense.objectness[0].device

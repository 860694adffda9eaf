"""What passes between the stages after the dense part, and how its number of rows is chosen.

The number of proposals and of detections depends on the image. On a CPU rows are trimmed to it
(`models.pipeline.trimmed`), as each row costs time. A GPU would have to wait until the host knows the number:
there each image has a fixed number of rows (`models.pipeline.padded`). Everything else is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from models.engines.protocol import DenseOutput
from models.ops.roi_align import RoIAlignConfig
from models.ops.scratch import ScratchBuffer
from models.pipeline.request_table import RequestTable
from models.zoo.sections import RankBy

SMALLEST_DETECTION = 1e-2  # canvas px; torchvision's `RoIHeads.postprocess_detections`


@dataclass(frozen=True)
class RPNLimits:
    """What is ranked, at most `pre_nms` anchors of a level, and what is kept, `post_nms` of an image."""

    pre_nms: int
    post_nms: int
    nms_threshold: float  # largest overlap in a level
    score_threshold: float  # lowest score
    min_size: float  # shortest side, canvas px
    rank_by: RankBy


@dataclass(frozen=True, eq=False)
class Best:
    """The anchors with the highest logits (B, N), level by level: deltas (B, N, 4), index (B, N), counts.

    Padding, the last of a level, is not in `counts`. `checksum` (B,) is that of all outputs of the RPN.
    """

    logits: Tensor
    deltas: Tensor
    index: Tensor  # into the anchors of all levels
    counts: tuple[int, ...]  # of each level
    checksum: Tensor


@dataclass(frozen=True, eq=False)
class Ranking:
    """Decoded boxes (B, N, 4), their sizes (B, N, 2), scores and logits (B, N), best first in each level."""

    boxes: Tensor
    sizes: Tensor
    scores: Tensor
    logits: Tensor
    counts: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Proposals:
    """Boxes (R, 4) xyxy canvas px of the images (R,), by image, best first.

    A padded batch has equally many of each image; the others are not `valid` (B, R/B). Its NMS is exact if
    the two `states` (B, N) are equal. Trimmed ones have neither. `checksums` (B,): not finite if outputs of
    the RPN are not.
    """

    boxes: Tensor
    images: Tensor
    valid: Tensor = field(default_factory=lambda: torch.empty(0))
    states: tuple[Tensor, ...] = ()
    checksums: tuple[Tensor, ...] = ()


@dataclass(frozen=True, eq=False)
class Chosen:
    """(Proposal, class) pairs above the score threshold: index (G, M) into each group's pairs, scores (G, M).

    `limits` (G, M, 4) or (G, 1, 4) are the largest coordinates of their boxes.
    """

    index: Tensor
    scores: Tensor
    limits: Tensor


@dataclass(frozen=True, eq=False)
class Decoded:
    """Chosen pairs with boxes (G, M, 4) xyxy canvas px, labels (G, M) and proposals' rows (G, M).

    `checksums` (B,): not finite if raw outputs of the network for an image are not.
    """

    boxes: Tensor
    labels: Tensor
    rows: Tensor
    scores: Tensor
    checksums: tuple[Tensor, ...]


class Answers(Protocol):
    """The detections of a batch on their device."""

    def fetch(self) -> "Answers":
        """The same on their way to the host: what runs on the device later may overwrite these."""

    def read(self) -> list[Tensor] | None:
        """Each image's detections after NMS, best first, on the host: (N, 6) xyxy canvas px, label, score.

        None if they are not certain to be exact. Raises NonFiniteOutputs.
        """


class Shapes(Protocol):
    """How the rows of a batch are chosen: trimmed or padded."""

    def rank(self, dense: DenseOutput, limits: RPNLimits) -> Best:
        """The best anchors of each level."""

    def propose(self, ranking: Ranking, limits: RPNLimits) -> Proposals:
        """The proposals that are large enough and survive NMS within their level."""

    def pool(
        self,
        features: Sequence[Tensor],
        proposals: Proposals,
        canvas: tuple[int, int],
        config: RoIAlignConfig,
        buffer: ScratchBuffer,
    ) -> Tensor:
        """Pooled features (R, C, side, side); they may lie in `buffer`."""

    def checksum(self, values: Tensor, proposals: Proposals, images: int) -> Tensor:
        """(B,): NaN or infinite if any of the values (R, n) of an image's proposals is."""

    def choose(self, scores: Tensor, proposals: Proposals, table: RequestTable) -> Chosen:
        """The pairs whose score (R, K) exceeds their request's threshold."""

    def suppress(self, decoded: Decoded, proposals: Proposals, table: RequestTable) -> Answers:
        """Drop small boxes, then NMS within each image and class."""

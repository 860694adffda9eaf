"""A fixed number of rows for each image: for a GPU, which then never waits for the host.

Nothing here depends on values, so the stages after the dense part run on meta tensors and could be captured.
Two things can make a result uncertain: NMS that needs more iterations, and more candidates than are compared
while fewer are kept than were asked for. Both are seen in the copy of the answers, and the batch's tail then
runs again, trimmed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from models.engines.protocol import DenseOutput
from models.ops.fixed_nms import KEPT, Ranked, highest_float
from models.ops.kernels import OF_TORCH, Kernels
from models.ops.roi_align import RoIAlignConfig
from models.ops.scratch import ScratchBuffer
from models.options import Options
from models.pipeline.checksums import check_finite
from models.pipeline.request_table import RequestTable
from models.pipeline.rows import (
    SMALLEST_DETECTION,
    Best,
    Chosen,
    Decoded,
    Proposals,
    Ranking,
    RPNLimits,
)
from models.pipeline.trimmed import flat_level

PADDING = -1e30  # a logit whose score is 0; unlike -infinity it leaves the sum of all logits finite
CANDIDATES = 1024  # (proposal, class) pairs of an image that are compared by NMS, the best ones
# One more than the longest chain of decisions is enough. It was 8 in the RPN's levels of the bundled models,
# 11 in those of a random coco-r50-fpn, and 5 in the classes of both at a score threshold of 0.05.
PROPOSAL_ITERATIONS, DETECTION_ITERATIONS = 12, 6


@dataclass(frozen=True, eq=False)
class PaddedAnswers:
    """Each image's columns in one tensor on the device (B, S), so that one copy brings them all.

    The first columns are its checksums.
    """

    columns: Tensor
    checksums: int  # how many
    candidates: int
    most: Sequence[float]  # detections that are enough for each request, whatever their size
    copied: torch.Event | None = None  # once they are on the host

    @property
    def tensors(self) -> list[Tensor]:
        """See `Recordable`."""
        return [self.columns]

    @property
    def compared(self) -> list[Tensor]:
        """See `Recordable`: the scores of the candidates, whose order may differ between equal ones."""
        first = self.checksums + 5 * self.candidates
        return [self.columns[:, first : first + self.candidates]]

    def of(self, options: Sequence[Options]) -> "PaddedAnswers":
        """Those of the first images of a recorded run, for these requests."""
        return replace(self, columns=self.columns[: len(options)], most=_enough(options))

    def fetch(self) -> "PaddedAnswers":
        """See `Answers`; the only copy from the device."""
        columns = self.columns.to("cpu", non_blocking=True, copy=True)  # pinned, if it is from a GPU
        on_gpu = self.columns.device.type == "cuda"
        copied = torch.cuda.current_stream(self.columns.device).record_event() if on_gpu else None
        return replace(self, columns=columns, copied=copied)

    def read(self) -> list[Tensor] | None:
        """See `Answers`; the host waits for the copy."""
        if self.copied is not None:
            self.copied.synchronize()
        checksums, columns = self.columns.tensor_split([self.checksums], dim=1)
        check_finite(checksums)
        images = [_unpack(row, self.candidates) for row in columns]
        if not all(image.certain(most) for image, most in zip(images, self.most, strict=True)):
            return None
        return [image.kept for image in images]


@dataclass(frozen=True, eq=False)
class _Image:
    """One image on the host: candidates (C, 6) with box, label, score; NMS states before and after."""

    rows: Tensor
    states: tuple[Tensor, Tensor]
    of_proposals: tuple[Tensor, Tensor]

    @property
    def kept(self) -> Tensor:
        """The detections; score 0 is padding."""
        return self.rows[(self.rows[:, 5] > 0) & (self.states[1] == KEPT)]

    def certain(self, most: float) -> bool:
        """Whether both NMS are settled and no candidate that was left out can be among the `most` best."""
        valid = self.rows[:, 5] > 0
        before, after = (state[valid] for state in self.states)
        settled = torch.equal(before, after) and torch.equal(*self.of_proposals)
        return settled and (len(self.kept) >= most or not bool(valid[-1:].any()))


def _unpack(row: Tensor, count: int) -> _Image:
    boxes, labels, scores, before, after, rest = row.tensor_split(
        [4 * count, *(count * k for k in range(5, 9))]
    )
    rows = torch.cat([boxes.view(-1, 4), labels[:, None], scores[:, None]], dim=1)
    first, last = rest.tensor_split(2)
    return _Image(rows, (before, after), (first, last))


class Padded:
    """`models.pipeline.rows.Shapes` with the same number of rows for every image.

    Computes what torchvision does. Only `Trimmed` knows the other ways of a card's sections.
    """

    def __init__(self, kernels: Kernels = OF_TORCH) -> None:
        self._kernels = kernels

    def rank(self, dense: DenseOutput, limits: RPNLimits) -> Best:
        """The best anchors of each level: `pre_nms` of each, with score 0 where a level has fewer.

        One top-k over all levels: each is padded at its front to the length of the first, finest one. The
        index of padding is that of an anchor of a finer level. Logits and deltas are copied into one tensor,
        whose sum is the checksum.
        """
        levels = [flat_level(*level) for level in zip(dense.objectness, dense.deltas, strict=True)]
        batch, lengths = len(levels[0][0]), tuple(logits.shape[1] for logits, _ in levels)
        gaps, starts = _padding(lengths, batch, levels[0][0].device)
        pairs = zip(gaps, (logits for logits, _ in levels), strict=True)
        columns = *(part for pair in pairs for part in pair), *(rows.flatten(1) for _, rows in levels)
        outputs = torch.cat(columns, dim=1)
        padded, deltas = outputs.tensor_split([len(levels) * lengths[0]], dim=1)
        counts = tuple(min(limits.pre_nms, length) for length in lengths)
        logits, places = padded.view(batch, -1, lengths[0]).topk(counts[0], dim=2)
        index = (places + starts).flatten(1)
        best = deltas.view(batch, -1, 4).gather(1, index[..., None].expand(-1, -1, 4))
        return Best(logits.flatten(1), best, index, counts, outputs.sum(dim=1))

    def propose(self, ranking: Ranking, limits: RPNLimits) -> Proposals:
        """The proposals that are large enough and survive NMS within their level; not those of score 0."""
        batch, count = len(ranking.boxes), ranking.counts[0]
        smallest = _smallest(ranking.counts, limits.min_size, ranking.sizes.device)
        valid = (ranking.sizes >= smallest).all(dim=2)
        if limits.score_threshold > 0:
            valid &= ranking.scores >= limits.score_threshold
        groups = (part.reshape(-1, count, *part.shape[2:]) for part in (ranking.boxes, ranking.sizes, valid))
        threshold = highest_float(limits.nms_threshold)
        before, state = self._kernels.nms(Ranked(*groups), threshold, PROPOSAL_ITERATIONS)
        state = state.view(batch, -1)
        # Half the score of what is kept, which is exact; not above 0 for the rest.
        ranks = torch.addcmul(ranking.scores, ranking.scores, state, value=-2 * KEPT)
        best, index = ranks.topk(min(limits.post_nms, ranks.shape[1]), dim=1)
        boxes = ranking.boxes.gather(1, index[..., None].expand(-1, -1, 4)).view(-1, 4)
        states = before.view(batch, -1), state
        return Proposals(boxes, _images(batch, index.shape[1], boxes.device), best > 0, states)

    def pool(
        self,
        features: Sequence[Tensor],
        proposals: Proposals,
        canvas: tuple[int, int],
        config: RoIAlignConfig,
        buffer: ScratchBuffer,
    ) -> Tensor:
        """Pooled features (R, C, side, side)."""
        return self._kernels.pool(features, proposals.boxes, proposals.images, canvas, config)

    def checksum(self, values: Tensor, proposals: Proposals, images: int) -> Tensor:
        """(B,): NaN or infinite if any of the values (R, n) of an image's proposals is."""
        return values.reshape(images, -1).sum(dim=1)

    def choose(self, scores: Tensor, proposals: Proposals, table: RequestTable) -> Chosen:
        """The best pairs above their request's threshold, a group for each image; score 0 is padding."""
        batch, classes = table.thresholds.shape
        by_image = scores.view(batch, -1, classes)
        above = (by_image > table.thresholds[:, None]).logical_and_(proposals.valid[..., None])
        chosen = (by_image * above).flatten(1)
        best, index = chosen.topk(min(CANDIDATES, chosen.shape[1]), dim=1)
        return Chosen(index, best, table.limits[:, None])

    def suppress(self, decoded: Decoded, proposals: Proposals, table: RequestTable) -> PaddedAnswers:
        """Drop small boxes, then NMS within each image and class."""
        boxes, labels = decoded.boxes, decoded.labels
        sizes = boxes[..., 2:] - boxes[..., :2]
        valid = (sizes >= SMALLEST_DETECTION).all(dim=2)
        agnostic = any(options.class_agnostic for options in table.options)
        kinds = labels * table.separate if agnostic else labels
        ranked = Ranked(boxes, sizes, valid, kinds)
        states = self._kernels.nms(ranked, table.nms[..., None], DETECTION_ITERATIONS)
        checksums = [checksum[:, None] for checksum in decoded.checksums]
        columns = *checksums, boxes.flatten(1), labels, decoded.scores, *states, *proposals.states
        return PaddedAnswers(
            torch.cat(columns, dim=1), len(checksums), labels.shape[1], _enough(table.options)
        )


def _enough(options: Sequence[Options]) -> list[float]:
    return [math.inf if each.drops_boxes else each.max_detections for each in options]


@lru_cache(64)
def _padding(lengths: tuple[int, ...], batch: int, device: torch.device) -> tuple[list[Tensor], Tensor]:
    """Logits (B, n) before each level that make it as long as the first; (L, 1) where its index starts."""
    lowest = torch.full((batch, 1), PADDING, device=device)
    gaps = [lowest.expand(-1, lengths[0] - length) for length in lengths]  # takes no memory
    ends = torch.tensor(lengths).cumsum(0)
    return gaps, (ends - lengths[0])[:, None].to(device)


@lru_cache(64)
def _smallest(counts: tuple[int, ...], side: float, device: torch.device) -> Tensor:
    """The smallest side (L * n, 1) of each rank: infinite for padding, the last ones of a level."""
    ranks = torch.arange(counts[0])
    sides = [torch.where(ranks < count, side, math.inf) for count in counts]
    return torch.cat(sides)[:, None].to(device)


@lru_cache(64)
def _images(batch: int, rows: int, device: torch.device) -> Tensor:
    """The image of each row: `rows` of each."""
    return torch.arange(batch, device=device).repeat_interleave(rows, output_size=batch * rows)

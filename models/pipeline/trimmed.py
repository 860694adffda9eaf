"""Rows trimmed to the number that an image has: for the CPU, where each row costs time.

On a GPU each step here waits for the device, so this runs only if the padded result is not certain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.engines.protocol import DenseOutput
from models.ops.nms import Suppress, torchvision_nms
from models.ops.roi_align import RoIAlignConfig, pool_rows
from models.ops.scratch import ScratchBuffer
from models.ops.voting import VOTERS, vote
from models.options import Options
from models.pipeline.checksums import check_finite, dense_checksums
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
from models.zoo.sections import EmptyBoxes, RankBy


@dataclass(frozen=True, eq=False)
class TrimmedAnswers:
    """Detections (N, 6) and checksum (B,) of each image, on their device."""

    images: list[Tensor]
    checksums: Tensor

    def fetch(self) -> "TrimmedAnswers":
        """See `Answers`; a single copy from the device, for which the host waits."""
        parts = [*self.images, self.checksums[:, None].expand(-1, 6)]
        *images, checksums = torch.split(torch.cat(parts).cpu(), [len(part) for part in parts])
        return TrimmedAnswers(images, checksums[:, 0])

    def read(self) -> list[Tensor]:
        """See `Answers`; always exact."""
        fetched = self if self.checksums.device.type == "cpu" else self.fetch()
        check_finite(fetched.checksums[:, None])
        return fetched.images


class Trimmed:
    """`models.pipeline.rows.Shapes` with as many rows as there are."""

    def __init__(
        self,
        suppress: Suppress = torchvision_nms,
        empty_boxes: EmptyBoxes = "drop_first",
        voting_iou: float | None = None,
    ) -> None:
        """`voting_iou`: the least overlap of boxes that are averaged; None: none are."""
        self._suppress = suppress
        self._voting_iou = voting_iou
        self._smallest = SMALLEST_DETECTION if empty_boxes == "drop_first" else 0.0

    def rank(self, dense: DenseOutput, limits: RPNLimits) -> Best:
        """The best anchors of each level."""
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        start = 0
        for objectness, deltas in zip(dense.objectness, dense.deltas, strict=True):
            logits, rows = flat_level(objectness, deltas)
            best, index = _best_logits(logits, min(limits.pre_nms, logits.shape[1]), limits.rank_by)
            parts.append((best, rows.gather(1, index[..., None].expand(-1, -1, 4)), index + start))
            start += logits.shape[1]
        counts = tuple(best.shape[1] for best, *_ in parts)
        logits, picked, index = (torch.cat(columns, dim=1) for columns in zip(*parts, strict=True))
        return Best(logits, picked, index, counts, dense_checksums(dense))

    def propose(self, ranking: Ranking, limits: RPNLimits) -> Proposals:
        """The proposals that are large enough and survive NMS within their level."""
        large = (ranking.sizes >= limits.min_size).all(dim=2) & (ranking.scores >= limits.score_threshold)
        images, places = torch.where(large)
        boxes = ranking.boxes[images, places]
        scores = _nms_scores(ranking, limits.rank_by)[images, places]
        # All levels of all images in one call, as each call costs as much as its work.
        groups = images * len(ranking.counts) + _levels(ranking)[places]
        best = self._suppress(boxes, scores, groups, limits.nms_threshold)
        kept = _first(images[best], len(large), limits.post_nms)
        return Proposals(boxes[best[kept]], images[best[kept]])

    def pool(
        self,
        features: Sequence[Tensor],
        proposals: Proposals,
        canvas: tuple[int, int],
        config: RoIAlignConfig,
        buffer: ScratchBuffer,
    ) -> Tensor:
        """Pooled features (R, C, side, side); they may lie in `buffer`."""
        return pool_rows(features, proposals.boxes, proposals.images, canvas, config, buffer)

    def checksum(self, values: Tensor, proposals: Proposals, images: int) -> Tensor:
        """(B,): NaN or infinite if any of the values (R, n) of an image's proposals is."""
        return values.new_zeros(images).index_add_(0, proposals.images, values.sum(dim=1))

    def choose(self, scores: Tensor, proposals: Proposals, table: RequestTable) -> Chosen:
        """The pairs whose score (R, K) exceeds their request's threshold, and voters; all are one group."""
        least = table.thresholds
        if self._voting_iou is not None:  # of the classes that are asked for
            least = least.where(least.isinf(), least.clamp(max=VOTERS))
        index = torch.where((scores > least[proposals.images]).view(-1))[0]
        images = proposals.images[index // scores.shape[1]]
        return Chosen(index[None], scores.view(-1)[index][None], table.limits[images][None])

    def suppress(self, decoded: Decoded, proposals: Proposals, table: RequestTable) -> TrimmedAnswers:
        """Drop small boxes, then NMS within each image and class."""
        boxes, labels, scores = decoded.boxes[0], decoded.labels[0], decoded.scores[0]
        sizes = boxes[:, 2:] - boxes[:, :2]
        keep = torch.where((sizes >= self._smallest).all(dim=1))[0]
        counts = proposals.images[decoded.rows[0, keep]].bincount(minlength=len(table.options)).tolist()
        columns = (torch.split(column[keep], counts) for column in (boxes, labels, scores))
        images = zip(*columns, table.options, strict=True)
        checksums = torch.stack(decoded.checksums).sum(dim=0)
        return TrimmedAnswers([self._best(*image) for image in images], checksums)

    def _best(self, boxes: Tensor, labels: Tensor, scores: Tensor, options: Options) -> Tensor:
        groups = torch.zeros_like(labels) if options.class_agnostic else labels
        best = self._suppress(boxes, scores, groups, options.nms_threshold)
        found = boxes[best]
        if self._voting_iou is not None:
            kept = torch.where(scores[best] > options.score_threshold)[0]  # NMS needs no lower ones
            best = best[kept]
            found = vote(boxes, labels, scores, best, self._voting_iou)
        columns = labels[best, None].to(boxes.dtype), scores[best, None]  # a float holds every label exactly
        return torch.cat([found, *columns], dim=1)


def _levels(ranking: Ranking) -> Tensor:
    """The level of each box of an image (N,)."""
    device = ranking.boxes.device
    return torch.cat([torch.full((n,), k, device=device) for k, n in enumerate(ranking.counts)])


def _first(images: Tensor, count: int, most: int) -> Tensor:
    """The indices of the first `most` rows of each image, by image; `images` (N,) are those of the rows."""
    if count == 1:
        return torch.arange(min(most, len(images)), device=images.device)
    by_image = images.argsort(stable=True)
    counts = images.bincount(minlength=count).tolist()
    return torch.cat([rows[:most] for rows in torch.split(by_image, counts)])


def _best_logits(logits: Tensor, count: int, rank_by: RankBy) -> tuple[Tensor, Tensor]:
    """The best logits (B, count) and their indices; by score, the first of those that round to the same."""
    if rank_by != "scores":
        best, index = logits.topk(count, dim=1)
        return best, index
    index = logits.sigmoid().sort(dim=1, descending=True, stable=True).indices[:, :count]
    return logits.gather(1, index), index


def _nms_scores(ranking: Ranking, rank_by: RankBy) -> Tensor:
    """What NMS orders the boxes of all levels by (B, N)."""
    if rank_by != "logits":
        return ranking.scores
    lowest = ranking.logits.amin(dim=1, keepdim=True)
    return ranking.logits - lowest + 1.0  # positive, as an engine's NMS may require


def flat_level(objectness: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
    """A level's logits (B, A) and deltas (B, A, 4) in the order of its anchors."""
    batch, per_place, height, width = objectness.shape
    logits = objectness.permute(0, 2, 3, 1).reshape(batch, -1)
    rows = deltas.view(batch, per_place, 4, height, width).permute(0, 3, 4, 1, 2)
    return logits, rows.reshape(batch, -1, 4)

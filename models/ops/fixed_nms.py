"""Non-maximum suppression of many groups at once, with fixed shapes and without a host synchronisation.

Whether a box is kept depends on the better boxes of its group that are kept. All boxes of all groups are
decided again in each iteration, from the previous one; a box is right as soon as those it depends on are. So
after as many iterations as the longest chain of such decisions the result is that of the usual loop, exactly.
Chains are short (11 at most in a thousand boxes a level of a random network, 8 in trained ones), but no fixed
number is enough for every input: the states before and after the last iteration tell whether it was.

An iteration is one kernel: with p = infinity, `cdist` is the maximum over j of |state of j - link of i and
j|. A link of 2 turns a kept box j (0.5) into 1.5, which suppresses i; any other term is at most 0.5.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

KEPT, SUPPRESSED = 0.5, 1.5
NEVER = -10.0  # added to an overlap, which is at most 1, it is below every threshold
MAX_PAIRS = 2**26  # computed at once: a float and two temporary pairs of floats each, 1.3 GB


@dataclass(frozen=True, eq=False)
class Ranked:
    """Boxes (G, N, 4) xyxy of each group, best first, with their sizes (G, N, 2); only `valid` ones (G, N)
    suppress others or are kept, and only boxes of equal `kinds` (G, N), if given, suppress each other."""

    boxes: Tensor
    sizes: Tensor
    valid: Tensor
    kinds: Tensor | None = None


def fixed_nms(ranked: Ranked, threshold: float | Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """States (G, N), KEPT or SUPPRESSED, before and after the last iteration: if equal, they are exact.

    A kept box suppresses those of a larger overlap than the threshold: a number, or (G, 1, 1).
    """
    groups, count, _ = ranked.boxes.shape
    at_once = max(1, MAX_PAIRS // max(1, count * count))
    if groups <= at_once:
        return _settle(ranked, threshold, iterations)
    halves = [_half(ranked, threshold, slice(0, at_once)), _half(ranked, threshold, slice(at_once, None))]
    befores, afters = zip(*(fixed_nms(*half, iterations) for half in halves), strict=True)
    return torch.cat(befores), torch.cat(afters)


def _half(ranked: Ranked, threshold: float | Tensor, part: slice) -> tuple[Ranked, float | Tensor]:
    kinds = ranked.kinds if ranked.kinds is None else ranked.kinds[part]
    groups = Ranked(ranked.boxes[part], ranked.sizes[part], ranked.valid[part], kinds)
    return groups, threshold[part] if isinstance(threshold, Tensor) else threshold


def _settle(ranked: Ranked, threshold: float | Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    links = _links(ranked, threshold)
    # 1 holds a box at KEPT at least; 0 holds an invalid one at SUPPRESSED.
    links.diagonal(dim1=1, dim2=2).copy_(ranked.valid)
    kept, suppressed = (_scalar(value, links.device) for value in (KEPT, SUPPRESSED))
    before = state = torch.where(ranked.valid, kept, suppressed)[:, None]
    for _ in range(iterations):
        before, state = state, torch.cdist(state, links, p=math.inf)
    return before[:, 0], state[:, 0]


def _links(ranked: Ranked, threshold: float | Tensor) -> Tensor:
    """Link (G, N, N) of each box i with each box j: 2 if a kept j suppresses i, else 1."""
    boxes = ranked.boxes
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    shared = high.sub_(low).clamp_(min=0).prod(-1)
    areas = ranked.sizes.prod(-1)
    union = (areas[:, :, None] + areas[:, None]).sub_(shared)
    overlap = torch.addcdiv(_apart(ranked), shared, union)  # NaN for two empty boxes, as in torchvision
    return overlap.gt_(threshold).add_(1)


def _apart(ranked: Ranked) -> Tensor:
    """What to add to the overlap of boxes i and j: 0 if j may suppress i, else NEVER."""
    earlier = _earlier(ranked.boxes.shape[1], ranked.boxes.device)
    if ranked.kinds is None:
        return earlier
    same = ranked.kinds[:, :, None] == ranked.kinds[:, None]
    return torch.where(same, earlier, _scalar(NEVER, earlier.device))


@lru_cache
def _earlier(count: int, device: torch.device) -> Tensor:
    """(count, count): 0 where j comes before i, else NEVER."""
    return torch.full((count, count), NEVER, device=device).triu_()


@lru_cache
def _scalar(value: float, device: torch.device) -> Tensor:
    return torch.full((), value, device=device)


def highest_float(threshold: float) -> float:
    """The highest float32 that is not above the threshold: `overlap > threshold` is the same for both."""
    nearest = np.float32(threshold)
    return float(nearest if float(nearest) <= threshold else np.nextafter(nearest, np.float32(-math.inf)))

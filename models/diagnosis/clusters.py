"""k-means of box shapes with 1 - IoU as the distance (Redmon & Farhadi 2017): which suggests anchors."""

import numpy as np

from models.diagnosis.inspection import Floats

ROUNDS = 100
STARTS = 5  # from different centres; the best is used
SEED = 0  # the same data give the same suggestion


def shape_ious(shapes: Floats, others: Floats) -> Floats:
    """IoU (N, K) of boxes with a common centre, given as width and height: (N, 2) and (K, 2)."""
    common = np.minimum(shapes[:, None], others[None]).prod(axis=-1)
    ious: Floats = common / (shapes.prod(axis=1)[:, None] + others.prod(axis=1)[None] - common)
    return ious


def cluster(shapes: Floats, count: int) -> Floats:
    """At most `count` cluster centres (K, 2), by area, of `shapes` (N, 2), N > 0."""
    rng = np.random.default_rng(SEED)
    count = min(count, len(np.unique(shapes, axis=0)))
    runs = [_run(shapes, _spread(shapes, count, rng)) for _ in range(STARTS)]
    best = max(runs, key=lambda centres: float(shape_ious(shapes, centres).max(axis=1).mean()))
    ordered: Floats = best[np.argsort(best.prod(axis=1), kind="stable")]
    return ordered


def _spread(shapes: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Initial centres, each drawn far from the previous ones (k-means++, Arthur & Vassilvitskii 2007)."""
    centres = shapes[rng.integers(len(shapes), size=1)]
    while len(centres) < count:
        distances = (1 - shape_ious(shapes, centres).max(axis=1)).clip(min=0) ** 2
        if not distances.any():
            break
        chosen = rng.choice(len(shapes), p=distances / distances.sum())
        centres = np.concatenate([centres, shapes[chosen : chosen + 1]])
    return centres


def _run(shapes: Floats, centres: Floats) -> Floats:
    nearest = np.full(len(shapes), -1)
    for _ in range(ROUNDS):
        before, nearest = nearest, shape_ious(shapes, centres).argmax(axis=1)
        if (before == nearest).all():
            break
        # The median, as a few huge objects would distort a mean.
        members = [shapes[nearest == k] for k in range(len(centres))]
        centres = np.array(
            [np.median(m, axis=0) if len(m) else c for m, c in zip(members, centres, strict=True)]
        )
    return centres

"""Check 3b: do the anchors have the sizes and ratios of the objects on the canvas?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torchvision.models.detection.anchor_utils import AnchorGenerator

from models.diagnosis.clusters import cluster, shape_ious
from models.diagnosis.finding import Finding, Sheet, Verdict, share
from models.diagnosis.inspection import Floats, InspectedImage
from models.diagnosis.proposal_size import FIRST, best_factor, measure_size_factors

POSITIVE = 0.5  # lowest IoU of an anchor that fits an object; torchvision trains on anchors from 0.7 on
FAULT, DOUBT = 0.4, 0.25  # share of objects without an anchor of that IoU
LEAST_RATIO = 0.01  # of a suggestion, which is rounded
BINS = 20
PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Suggestion:
    """Sizes (canvas px) and ratios (height / width) for an AnchorGenerator; its shapes' mean IoU."""

    sizes: tuple[int, ...]
    ratios: tuple[float, ...]
    fit: float


@dataclass(frozen=True, eq=False)
class Anchors:
    """ious (N,): of each object with its best anchor. objects (N, 2), shapes (A, 2): width and height of
    objects and of anchors, canvas px. fit: mean IoU of shapes with a common centre. size_factors: share of
    the objects that the first proposals match, by the factor they are resized by.
    """

    ious: Floats
    objects: Floats
    shapes: Floats
    sizes: tuple[tuple[int, ...], ...]
    ratios: tuple[tuple[float, ...], ...]
    fit: float
    suggestion: Suggestion | None
    size_factors: dict[float, float]

    @property
    def without(self) -> float:
        """Share of the objects with no anchor of IoU 0.5 or more."""
        return share(int(np.count_nonzero(self.ious < POSITIVE)), len(self.ious))


def measure_anchors(images: Sequence[InspectedImage], generator: AnchorGenerator) -> Anchors:
    """Compare the network's anchors with the objects in canvas pixels, and suggest others by k-means."""
    objects = np.concatenate([np.zeros((0, 2)), *(_on_canvas(image) for image in images)])
    sizes, ratios = tuple(generator.sizes), tuple(generator.aspect_ratios)
    shapes = np.concatenate([_shapes(s, r) for s, r in zip(sizes, ratios, strict=True)])
    distinct = len({size for level in sizes for size in level})
    return Anchors(
        ious=np.concatenate([np.zeros(0), *(image.anchor_ious for image in images)]),
        objects=objects,
        shapes=np.unique(shapes.round(3), axis=0),
        sizes=sizes,
        ratios=ratios,
        fit=_fit(objects, shapes),
        suggestion=_suggest(objects, distinct, max(len(level) for level in ratios)) if len(objects) else None,
        size_factors=measure_size_factors(images),
    )


def _on_canvas(image: InspectedImage) -> Floats:
    sides: Floats = (image.objects[:, 2:].astype(np.float64) - image.objects[:, :2]) * np.array(image.scale)
    return sides


def _shapes(sizes: Sequence[float], ratios: Sequence[float]) -> Floats:
    """Width and height of each size and ratio, as in torchvision's AnchorGenerator."""
    return np.array(
        [(size / ratio**0.5, size * ratio**0.5) for ratio in ratios for size in sizes], np.float64
    )


def _fit(objects: Floats, shapes: Floats) -> float:
    return float(shape_ious(objects, shapes).max(axis=1).mean()) if len(objects) else 0.0


def _suggest(objects: Floats, sizes: int, ratios: int) -> Suggestion:
    """As many sizes and ratios as now: clusters of the objects' areas, and of their shapes at one area."""
    side = np.sqrt(objects.prod(axis=1))
    chosen = cluster(np.stack([side, side], axis=1), sizes)[:, 0]
    unit = cluster(objects / side[:, None], ratios)
    slopes = sorted(max(LEAST_RATIO, round(float(height / width), 2)) for width, height in unit)
    rounded = sorted({max(1, round(float(size))) for size in chosen})
    return Suggestion(tuple(rounded), tuple(slopes), _fit(objects, _shapes(rounded, slopes)))


def suggested_shapes(suggestion: Suggestion) -> Floats:
    """Width and height (A, 2) of the suggested anchors, canvas px."""
    return _shapes(suggestion.sizes, suggestion.ratios)


def suggested_code(anchors: Anchors) -> str:
    """The suggestion as a call: one size per level or all sizes at each, as in the network."""
    if anchors.suggestion is None:
        return ""
    sizes, ratios = anchors.suggestion.sizes, anchors.suggestion.ratios
    levels = len(anchors.sizes)
    one_each = levels == len(sizes) and all(len(level) == 1 for level in anchors.sizes)
    by_level = tuple((size,) for size in sizes) if one_each else (sizes,) * levels
    return f"AnchorGenerator({by_level}, {(ratios,) * levels})"


def judge_anchors(anchors: Anchors) -> Finding:
    """Anchors that fit few objects are a fault: the RPN cannot learn such large offsets."""
    if anchors.suggestion is None:
        return _finding(anchors, "not measured", "there are no objects", "Name data with objects.")
    without, better = anchors.without, anchors.suggestion.fit - anchors.fit
    verdict: Verdict = "fault" if without > FAULT else "suspicious" if without > DOUBT else "ok"
    side = float(np.median(np.sqrt(anchors.objects.prod(axis=1))))
    smallest, largest = min(min(s) for s in anchors.sizes), max(max(s) for s in anchors.sizes)
    reason = (
        f"{without:.0%} of the objects have no anchor of IoU {POSITIVE} or more; objects are {side:.0f} px "
        f"large (median, on the canvas), anchors {smallest} to {largest} px"
    )
    factor = best_factor(anchors.size_factors)
    if verdict != "fault" and factor is not None:
        return _finding(anchors, "fault", _wrong_size(anchors, factor), _retrain(anchors, factor))
    if verdict == "ok":
        return _finding(anchors, verdict, reason, "Nothing to do.")
    advice = (
        f"Train with {suggested_code(anchors)}: its shapes fit the objects {better:+.2f} better in mean IoU. "
        f"Or change min_size and max_size {_nearest(anchors, side):.1f} times, and train at that size."
    )
    return _finding(anchors, verdict, reason, advice)


def _wrong_size(anchors: Anchors, factor: float) -> str:
    met, now = anchors.size_factors[factor], anchors.size_factors[1.0]
    return (
        f"proposals lie on the objects but are about {1 / factor:.1f} times as large: resized by {factor:g}, "
        f"the first {FIRST} match {met:.0%} of the objects, unchanged {now:.0%}; the weights were "
        "trained with other anchors"
    )


def _retrain(anchors: Anchors, factor: float) -> str:
    sizes = _join([round(size * factor) for size in _all(anchors.sizes)])
    return (
        f"Build the network with the anchors of its training (about {sizes} px for "
        f"{_join(_all(anchors.sizes))}), or train it with these."
    )


def _nearest(anchors: Anchors, side: float) -> float:
    """The factor from the median object to the middle of the anchors' sizes."""
    return float(np.exp(np.log([s for level in anchors.sizes for s in level]).mean())) / side


def _finding(anchors: Anchors, verdict: Verdict, reason: str, advice: str) -> Finding:
    rows = [_row("best anchor IoU", anchors.ious, 2)]
    rows += [_row("object side, px", np.sqrt(anchors.objects.prod(axis=1)), 0)]
    rows += [_row("height / width", anchors.objects[:, 1] / anchors.objects[:, 0], 2)]
    kinds = [("these anchors", _all(anchors.sizes), _all(anchors.ratios), anchors.fit)]
    if anchors.suggestion is not None:
        suggestion = anchors.suggestion
        kinds.append(("k-means suggests", suggestion.sizes, suggestion.ratios, suggestion.fit))
    fits = tuple((name, _join(sizes), _join(ratios), f"{fit:.3f}") for name, sizes, ratios, fit in kinds)
    return Finding(
        check="anchors",
        title="Anchors: do they have the sizes and ratios of the objects?",
        culprit="the anchors",
        verdict=verdict,
        reason=reason,
        advice=advice,
        sheets=(
            Sheet(
                "percentiles over the objects, on the canvas",
                ("", *(f"{p} %" for p in PERCENTILES)),
                tuple(rows),
            ),
            Sheet("anchors", ("", "sizes, canvas px", "ratios (height / width)", "mean IoU of shapes"), fits),
        ),
        numbers=_numbers(anchors),
    )


def _row(name: str, values: Floats, decimals: int) -> tuple[str, ...]:
    if not len(values):
        return (name, *["-"] * len(PERCENTILES))
    return (name, *(f"{value:.{decimals}f}" for value in np.percentile(values, PERCENTILES)))


def _all(levels: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(sorted({value for level in levels for value in level}))


def _join(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _numbers(anchors: Anchors) -> dict[str, Any]:
    counts, edges = np.histogram(anchors.ious, bins=BINS, range=(0, 1))
    suggestion = anchors.suggestion
    return {
        "objects": len(anchors.ious),
        "without_anchor": anchors.without,
        "mean_best_iou": float(anchors.ious.mean()) if len(anchors.ious) else 0.0,
        "histogram": {"edges": edges.round(3).tolist(), "objects": counts.tolist()},
        "sizes": [list(level) for level in anchors.sizes],
        "ratios": [list(level) for level in anchors.ratios],
        "shape_fit": anchors.fit,
        "met_if_resized": {str(factor): met for factor, met in anchors.size_factors.items()},
        "suggested": suggestion
        and {
            "sizes": list(suggestion.sizes),
            "ratios": list(suggestion.ratios),
            "shape_fit": suggestion.fit,
            "code": suggested_code(anchors),
        },
    }

"""Check 1: does the RPN propose the objects? No later stage can detect an object without a proposal."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.diagnosis.finding import Finding, Sheet, Verdict, share
from models.diagnosis.inspection import InspectedImage
from models.evaluation.assessment import SIZES
from models.evaluation.curves import overlaps

COUNTS = (10, 50, 100, 300, 1000)
IOUS = (0.5, 0.7)
USUAL = 300  # proposals that give the same AP as thousands (Ren et al. 2015, table 2)
FAULT, DOUBT = 0.8, 0.93  # recall of USUAL proposals at IoU 0.5
WORTH_MORE = 0.03  # recall that more proposals must gain to be advised


@dataclass(frozen=True, eq=False)
class Recall:
    """Recall by IoU and number of proposals (2, 5); of USUAL proposals by class and by size, at both IoUs.

    own: number of proposals that the network passes on; objects: number of objects by the same names.
    """

    table: npt.NDArray[np.float64]
    by_class: dict[str, tuple[float, float]]
    by_size: dict[str, tuple[float, float]]
    objects: dict[str, int]
    own: int

    @property
    def usual(self) -> float:
        """Recall of USUAL proposals at IoU 0.5."""
        return float(self.table[0, COUNTS.index(USUAL)])


def measure_recall(images: Sequence[InspectedImage], labels: Sequence[str], own: int) -> Recall:
    """Recall of the proposals, without regard to class; `labels`: the data's, background first."""
    best = np.concatenate([np.zeros((len(COUNTS), 0)), *(_best(image) for image in images)], axis=1)
    classes = np.concatenate([np.zeros(0, np.int64), *(image.labels for image in images)])
    boxes = np.concatenate([np.zeros((0, 4)), *(image.objects for image in images)])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    groups = {name: classes == label for label, name in enumerate(labels) if label}
    sizes = {name: (areas >= least) & (areas < most) for name, (least, most) in SIZES.items()}
    usual = best[COUNTS.index(USUAL)]
    return Recall(
        table=np.array([[_reached(row, iou) for row in best] for iou in IOUS]),
        by_class={name: _both(usual[mask]) for name, mask in groups.items() if mask.any()},
        by_size={name: _both(usual[mask]) for name, mask in sizes.items() if mask.any()},
        objects={name: int(mask.sum()) for name, mask in {**groups, **sizes}.items()} | {"all": len(boxes)},
        own=own,
    )


def _best(image: InspectedImage) -> npt.NDArray[np.float64]:
    """The best IoU of each object (5, N) with the first 10, 50, … proposals."""
    ious = overlaps(image.proposals, image.objects)
    rows = [ious[:count].max(axis=0, initial=0.0) for count in COUNTS]
    return np.array(rows).reshape(len(COUNTS), len(image.objects))


def _reached(ious: npt.NDArray[np.float64], iou: float) -> float:
    return share(int(np.count_nonzero(ious >= iou)), len(ious))


def _both(ious: npt.NDArray[np.float64]) -> tuple[float, float]:
    return _reached(ious, IOUS[0]), _reached(ious, IOUS[1])


def judge_recall(recall: Recall) -> Finding:
    """Low recall is a fault of the RPN or of its anchors."""
    verdict: Verdict = "fault" if recall.usual < FAULT else "suspicious" if recall.usual < DOUBT else "ok"
    gain = float(recall.table[0, -1] - recall.usual)
    text = f"{USUAL} proposals reach {recall.usual:.1%} of the objects at IoU 0.5"
    worst = min(recall.by_size, key=lambda name: recall.by_size[name][0], default="")
    if verdict == "ok":
        return _finding(recall, verdict, f"{text}: the RPN misses almost nothing", "Nothing to do.")
    advice = (
        "See the check of the anchors first; if they fit, train longer or with a higher weight of "
        "the RPN's loss."
    )
    if gain >= WORTH_MORE:
        advice += (
            f" {COUNTS[-1]} proposals would reach {gain:.1%} more: let the RPN pass on more than {USUAL}."
        )
    lost = f"{text}; no later stage can detect the others (worst: {worst} objects)"
    return _finding(recall, verdict, lost, advice)


def _finding(recall: Recall, verdict: Verdict, reason: str, advice: str) -> Finding:
    counts = tuple(f"{count}" for count in COUNTS)
    rows = tuple(
        (f"IoU {iou}", *(f"{value:.3f}" for value in row))
        for iou, row in zip(IOUS, recall.table, strict=True)
    )
    groups = tuple(
        (name, str(recall.objects[name]), *(f"{value:.3f}" for value in values))
        for name, values in {**recall.by_size, **recall.by_class}.items()
    )
    return Finding(
        check="recall",
        title="Proposal recall: does the RPN see the objects?",
        culprit="the RPN's recall",
        verdict=verdict,
        reason=reason,
        advice=advice,
        sheets=(
            Sheet("recall by number of proposals", ("proposals", *counts), rows),
            Sheet(f"recall of {USUAL} proposals", ("", "objects", "IoU 0.5", "IoU 0.7"), groups),
        ),
        numbers={
            "proposals": list(COUNTS),
            "recall": {str(iou): row.tolist() for iou, row in zip(IOUS, recall.table, strict=True)},
            "by_class": {name: list(values) for name, values in recall.by_class.items()},
            "by_size": {name: list(values) for name, values in recall.by_size.items()},
            "objects": recall.objects,
            "own_proposals": recall.own,
        },
    )

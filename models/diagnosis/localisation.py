"""Check 5: are objects found but boxed badly, or boxed well but named badly, or not found at all?

Errors are told apart as in TIDE (Bolya et al. 2020), at the card's score threshold.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.diagnosis.finding import Finding, Sheet, Verdict, share
from models.diagnosis.observation import Observation
from models.evaluation.coco import evaluate
from models.evaluation.curves import MATCHING_IOU, Bools, Floats, match, on_crowd, overlaps

NEAR = 0.1  # IoU from which on a detection means an object
LOW_AP50, FAIR_AP50 = 0.5, 0.7
LOW_RATIO, FAIR_RATIO = 0.5, 0.62  # AP75 / AP50
ERRORS = {
    "missed": "objects without any detection",
    "localisation": f"right class, IoU {NEAR} to {MATCHING_IOU}",
    "confusion": "on an object of another class",
    "duplicate": "on an object that is found already",
    "background": "on no object",
}
CULPRITS = {
    "missed": "missed objects",
    "localisation": "localisation (boxes lie badly)",
    "confusion": "classification (classes are taken for each other)",
    "duplicate": "duplicates",
    "background": "classification (background is taken for objects)",
}
ADVICE = {
    "missed": "See the RPN's recall; where that is high, lower the score threshold, or train longer.",
    "localisation": "Check the coordinates and how exactly objects are annotated; train the box loss "
    "further, at a larger min_size.",
    "confusion": "Look at the confusion matrix of rcnn evaluate --plots; more examples help.",
    "duplicate": "Lower the NMS threshold; see its sweep.",
    "background": "Raise the score threshold, and look for objects that nobody annotated.",
}


@dataclass(frozen=True)
class Localisation:
    """COCO's numbers; right detections and errors, counted at the score threshold."""

    AP: float
    AP50: float
    AP75: float
    right: int
    errors: dict[str, int]
    objects: int
    threshold: float

    @property
    def ratio(self) -> float:
        """AP75 / AP50: how many of the boxes that lie roughly lie well."""
        return share(max(self.AP75, 0.0), max(self.AP50, 0.0))

    @property
    def worst(self) -> str:
        """The commonest error."""
        return max(self.errors, key=lambda name: self.errors[name])


def measure_localisation(
    observations: Sequence[Observation], labels: Sequence[str], nms_threshold: float, score_threshold: float
) -> Localisation:
    """AP at rising IoU, and the errors among the detections from `score_threshold` on."""
    answers = [one.answer(nms_threshold) for one in observations]
    numbers = evaluate([one.truth for one in observations], answers, labels)
    errors: Counter[str] = Counter(dict.fromkeys((*ERRORS, "right"), 0))
    for one in observations:
        errors.update(_sort_out(one, nms_threshold, score_threshold))
    right = errors.pop("right")
    return Localisation(
        AP=numbers["AP"],
        AP50=numbers["AP50"],
        AP75=numbers["AP75"],
        right=right,
        errors=dict(errors),
        objects=sum(len(one.objects) for one in observations),
        threshold=score_threshold,
    )


def _sort_out(one: Observation, nms_threshold: float, score_threshold: float) -> Counter[str]:
    """Each detection's kind, and the objects that no detection explains."""
    found = one.answer(nms_threshold, score_threshold)
    ious = overlaps(found.boxes, one.objects)
    same = found.labels[:, None] == one.labels[None]
    matched = match(np.where(same, ious, 0.0))
    met = set(matched[matched >= 0].tolist())
    kinds: Counter[str] = Counter(right=len(met))
    ignored = on_crowd(found.boxes, one.truth.boxes[one.truth.ignored])
    for row in np.flatnonzero((matched < 0) & ~ignored):
        kind, column = _kind(ious[row], same[row])
        kinds[kind] += 1
        met |= {column} if kind in ("localisation", "confusion") else set()
    return kinds + Counter(missed=len(one.objects) - len(met))


def _kind(ious: Floats, same: Bools) -> tuple[str, int]:
    """Of a detection that is not right: its error, and the object it means."""
    mine, others = np.where(same, ious, 0.0), np.where(same, 0.0, ious)
    if mine.max(initial=0.0) >= MATCHING_IOU:
        return "duplicate", int(mine.argmax())
    if others.max(initial=0.0) >= MATCHING_IOU:
        return "confusion", int(others.argmax())
    if mine.max(initial=0.0) >= NEAR:
        return "localisation", int(mine.argmax())
    return "background", -1


def judge_localisation(found: Localisation) -> Finding:
    """Low AP50: the commonest error is at fault. High AP50 with low AP75: localisation is."""
    text = f"AP50 {found.AP50:.3f}, AP75 {found.AP75:.3f}"
    if found.AP50 < 0:
        return _finding(found, "not measured", "localisation", "there are no objects")
    if found.AP50 < LOW_AP50:
        return _finding(found, "fault", found.worst, f"{text}: {_commonest(found)}")
    if found.ratio < FAIR_RATIO:
        verdict: Verdict = "fault" if found.ratio < LOW_RATIO else "suspicious"
        reason = f"{text}: of what is found at IoU 0.5 only {found.ratio:.0%} holds at 0.75, boxes lie badly"
        return _finding(found, verdict, "localisation", reason)
    if found.AP50 < FAIR_AP50:
        return _finding(found, "suspicious", found.worst, f"{text}: {_commonest(found)}")
    reason = f"{text}: {found.ratio:.0%} of what is found at IoU 0.5 holds at 0.75; {_commonest(found)}"
    return _finding(found, "ok", found.worst, reason)


def _commonest(found: Localisation) -> str:
    count = found.errors[found.worst]
    if not count:
        return f"no error at score {found.threshold:g}"
    return f"the commonest error is {found.worst} ({count}, {ERRORS[found.worst]})"


def _finding(found: Localisation, verdict: Verdict, error: str, reason: str) -> Finding:
    numbers = {"AP": found.AP, "AP50": found.AP50, "AP75": found.AP75, "AP75 / AP50": found.ratio}
    rows = tuple(
        (name, str(count), f"{share(count, found.objects):.1%}", ERRORS[name])
        for name, count in found.errors.items()
    )
    right = ("right", str(found.right), f"{share(found.right, found.objects):.1%}", "found")
    return Finding(
        check="localisation",
        title="AP50 against AP75: localisation or classification?",
        culprit=CULPRITS[error],
        verdict=verdict,
        reason=reason,
        advice="Nothing to do." if verdict == "ok" else ADVICE[error],
        sheets=(
            Sheet("precision", tuple(numbers), (tuple(f"{value:.3f}" for value in numbers.values()),)),
            Sheet(
                f"detections from score {found.threshold:g} on",
                ("kind", "count", "of the objects", "meaning"),
                (right, *rows),
            ),
        ),
        numbers={
            "AP": found.AP,
            "AP50": found.AP50,
            "AP75": found.AP75,
            "objects": found.objects,
            "score_threshold": found.threshold,
            "right": found.right,
            "errors": found.errors,
        },
    )

"""Check 5: are objects localised badly, classified badly, or missed?

The kinds of errors are those of TIDE (Bolya et al. 2020), at the card's score threshold.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.diagnosis.finding import Finding, Sheet, Verdict, share
from models.diagnosis.inspection import InspectedImage
from models.evaluation.coco import evaluate
from models.evaluation.curves import MATCHING_IOU, Bools, Floats, match, on_ignored, overlaps

NEAR = 0.1  # lowest IoU at which a detection is assigned to an object
LOW_AP50, FAIR_AP50 = 0.5, 0.7
LOW_RATIO, FAIR_RATIO = 0.5, 0.62  # AP75 / AP50
ERRORS = {
    "missed": "objects without any detection",
    "localisation": f"right class, IoU {NEAR} to {MATCHING_IOU}",
    "confusion": "on an object of another class",
    "duplicate": "on an object that is already detected",
    "background": "on no object",
}
CULPRITS = {
    "missed": "missed objects",
    "localisation": "localisation (boxes are inaccurate)",
    "confusion": "classification (classes are confused)",
    "duplicate": "duplicates",
    "background": "classification (detections on the background)",
}
ADVICE = {
    "missed": "See the RPN's recall; if it is high, lower the score threshold or train longer.",
    "localisation": "Check the coordinates and the accuracy of the annotations; train longer with a larger "
    "min_size.",
    "confusion": "Look at the confusion matrix of rcnn evaluate --plots; more examples help.",
    "duplicate": "Lower the NMS threshold; see its sweep.",
    "background": "Raise the score threshold, and look for objects without annotations.",
}


@dataclass(frozen=True)
class Localisation:
    """COCO's numbers; correct detections and errors at the score threshold."""

    AP: float
    AP50: float
    AP75: float
    right: int
    errors: dict[str, int]
    objects: int
    threshold: float

    @property
    def ratio(self) -> float:
        """AP75 / AP50: the share of roughly localised objects that are localised well."""
        return share(max(self.AP75, 0.0), max(self.AP50, 0.0))

    @property
    def worst(self) -> str:
        """The most frequent error."""
        return max(self.errors, key=lambda name: self.errors[name])


def measure_localisation(
    images: Sequence[InspectedImage], labels: Sequence[str], nms_threshold: float, score_threshold: float
) -> Localisation:
    """AP at rising IoU, and the errors among the detections from `score_threshold` on."""
    predictions = [image.detections(nms_threshold) for image in images]
    numbers = evaluate([image.truth for image in images], predictions, labels)
    errors: Counter[str] = Counter(dict.fromkeys((*ERRORS, "right"), 0))
    for image in images:
        errors.update(_count_errors(image, nms_threshold, score_threshold))
    right = errors.pop("right")
    return Localisation(
        AP=numbers["AP"],
        AP50=numbers["AP50"],
        AP75=numbers["AP75"],
        right=right,
        errors=dict(errors),
        objects=sum(len(image.objects) for image in images),
        threshold=score_threshold,
    )


def _count_errors(image: InspectedImage, nms_threshold: float, score_threshold: float) -> Counter[str]:
    """Numbers of detections of each kind, and of missed objects."""
    found = image.detections(nms_threshold, score_threshold)
    ious = overlaps(found.boxes, image.objects)
    same = found.labels[:, None] == image.labels[None]
    matched = match(np.where(same, ious, 0.0))
    met = set(matched[matched >= 0].tolist())
    kinds: Counter[str] = Counter(right=len(met))
    ignored = on_ignored(found.boxes, image.truth, image.truth.ignored)
    for row in np.flatnonzero((matched < 0) & ~ignored):
        kind, column = _kind(ious[row], same[row])
        kinds[kind] += 1
        met |= {column} if kind in ("localisation", "confusion") else set()
    return kinds + Counter(missed=len(image.objects) - len(met))


def _kind(ious: Floats, same: Bools) -> tuple[str, int]:
    """The error of an incorrect detection, and the object it is assigned to."""
    same_class, others = np.where(same, ious, 0.0), np.where(same, 0.0, ious)
    if same_class.max(initial=0.0) >= MATCHING_IOU:
        return "duplicate", int(same_class.argmax())
    if others.max(initial=0.0) >= MATCHING_IOU:
        return "confusion", int(others.argmax())
    if same_class.max(initial=0.0) >= NEAR:
        return "localisation", int(same_class.argmax())
    return "background", -1


def judge_localisation(found: Localisation) -> Finding:
    """With low AP50 the most frequent error is the fault; with high AP50 and low AP75 localisation is."""
    text = f"AP50 {found.AP50:.3f}, AP75 {found.AP75:.3f}"
    if found.AP50 < 0:
        return _finding(found, "not measured", "localisation", "there are no objects")
    if found.AP50 < LOW_AP50:
        return _finding(found, "fault", found.worst, f"{text}: {_most_frequent(found)}")
    if found.ratio < FAIR_RATIO:
        verdict: Verdict = "fault" if found.ratio < LOW_RATIO else "suspicious"
        reason = (
            f"{text}: of what is found at IoU 0.5 only {found.ratio:.0%} holds at 0.75, boxes are inaccurate"
        )
        return _finding(found, verdict, "localisation", reason)
    if found.AP50 < FAIR_AP50:
        return _finding(found, "suspicious", found.worst, f"{text}: {_most_frequent(found)}")
    reason = f"{text}: {found.ratio:.0%} of what is found at IoU 0.5 holds at 0.75; {_most_frequent(found)}"
    return _finding(found, "ok", found.worst, reason)


def _most_frequent(found: Localisation) -> str:
    count = found.errors[found.worst]
    if not count:
        return f"no error at score {found.threshold:g}"
    return f"the most frequent error is {found.worst} ({count}, {ERRORS[found.worst]})"


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

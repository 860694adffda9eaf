"""Check 2: does the NMS threshold suit the data? Too low removes neighbours, too high leaves duplicates."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from models.detections import Detections
from models.diagnosis.finding import Finding, Sheet, Verdict
from models.diagnosis.inspection import InspectedImage, from_score
from models.evaluation.coco import evaluate
from models.evaluation.curves import MATCHING_IOU, match, on_ignored, overlaps

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# By AP50: AP at stricter IoU rises with duplicates, as one of several boxes may fit better.
FAULT, DOUBT = 0.01, 0.004  # AP50 that another threshold would gain
LOST, DUPLICATES = 0.005, 0.1  # more than with the best threshold, as shares of the objects
EQUAL = 0.003  # of settings this close to the highest AP50 the one with the fewest errors is best


@dataclass(frozen=True)
class Setting:
    """One NMS threshold: its AP, and at the card's score threshold duplicates and lost neighbours.

    duplicates: detections on an object that is already detected. lost: objects that only NMS removed.
    crowded: objects that overlap another of their class by more than the threshold.
    """

    threshold: float
    AP: float
    AP50: float
    duplicates: int
    lost: int
    crowded: int


@dataclass(frozen=True)
class Sweep:
    """The settings by rising threshold, including the card's own, and the number of objects."""

    settings: tuple[Setting, ...]
    own: Setting
    objects: int

    @property
    def best(self) -> Setting:
        """About the highest AP50 with the fewest errors; of equals the nearest to the card's."""
        enough = max(setting.AP50 for setting in self.settings) - EQUAL
        good = [setting for setting in self.settings if enough <= setting.AP50]
        return min(good, key=lambda s: (s.duplicates + s.lost, abs(s.threshold - self.own.threshold)))


def sweep_thresholds(
    images: Sequence[InspectedImage], labels: Sequence[str], own: float, score_threshold: float
) -> Sweep:
    """Each threshold on the same candidates; `own` and `score_threshold` are the card's."""
    tried = sorted({*THRESHOLDS, own})
    settings = {value: _try(images, labels, value, score_threshold) for value in tried}
    return Sweep(tuple(settings.values()), settings[own], sum(len(image.objects) for image in images))


def _try(
    images: Sequence[InspectedImage], labels: Sequence[str], threshold: float, score_threshold: float
) -> Setting:
    predictions = [image.detections(threshold) for image in images]
    numbers = evaluate([image.truth for image in images], predictions, labels)
    duplicates = lost = crowded = 0
    for image in images:
        detections = image.detections(threshold, score_threshold)
        candidates = from_score(image.candidates, score_threshold)
        for label in np.unique(image.labels):
            repeated, detected = _count(image, detections, int(label))
            duplicates += repeated
            lost += max(0, _detectable(image, candidates, int(label)) - detected)
            crowded += _crowded(image, int(label), threshold)
    return Setting(threshold, numbers["AP"], numbers["AP50"], duplicates, lost, crowded)


def _count(image: InspectedImage, detections: Detections, label: int) -> tuple[int, int]:
    """Numbers of duplicates and of detected objects."""
    boxes = detections.boxes[detections.labels == label]
    ious = overlaps(boxes, image.objects[image.labels == label])
    correct = match(ious) >= 0
    ignored = on_ignored(boxes, image.truth, image.truth.labels == label)
    repeated = ~correct & ~ignored & (ious.max(axis=1) >= MATCHING_IOU)
    return int(np.count_nonzero(repeated)), int(np.count_nonzero(correct))


def _detectable(image: InspectedImage, candidates: Detections, label: int) -> int:
    """The number of objects that the candidates match before NMS."""
    boxes = candidates.boxes[candidates.labels == label]
    return int(np.count_nonzero(match(overlaps(boxes, image.objects[image.labels == label])) >= 0))


def _crowded(image: InspectedImage, label: int, threshold: float) -> int:
    objects = image.objects[image.labels == label]
    ious = overlaps(objects, objects)
    np.fill_diagonal(ious, 0.0)
    return int(np.count_nonzero(ious.max(axis=1) > threshold))


def judge_sweep(sweep: Sweep) -> Finding:
    """The card's threshold is a fault if another one gives clearly more AP."""
    own, best = sweep.own, sweep.best
    verdict = _verdict(sweep)
    if verdict == "ok":
        figures = (
            f"{own.threshold:g} gives AP50 {own.AP50:.3f}, the best ({best.threshold:g}) {best.AP50:.3f}"
        )
        reason = f"the card's {figures}; {own.duplicates} duplicates, {own.lost} objects lost"
        return _finding(sweep, verdict, reason, "Nothing to do.")
    what = (
        f"suppresses neighbours: {own.lost} objects are lost to NMS, with {best.threshold:g} {best.lost}"
        if best.threshold > own.threshold
        else f"leaves {own.duplicates} duplicates, {best.threshold:g} leaves {best.duplicates}"
    )
    costs = f"{best.AP - own.AP:.3f} AP and {best.AP50 - own.AP50:.3f} AP50"
    reason = f"nms_threshold = {own.threshold:g} costs {costs}: it {what}"
    advice = f"Set nms_threshold = {best.threshold:g} in the card; no training is needed."
    return _finding(sweep, verdict, reason, advice)


def _verdict(sweep: Sweep) -> Verdict:
    """By AP50; objects that only NMS removes count even if they are too few to change it much."""
    own, best = sweep.own, sweep.best
    cost, lost, repeated = best.AP50 - own.AP50, own.lost - best.lost, own.duplicates - best.duplicates
    if cost >= FAULT or (cost >= DOUBT and lost >= LOST * max(1, sweep.objects)):
        return "fault"
    return "suspicious" if cost >= DOUBT or repeated >= DUPLICATES * max(1, sweep.objects) else "ok"


def _finding(sweep: Sweep, verdict: Verdict, reason: str, advice: str) -> Finding:
    rows = tuple(
        (
            f"{setting.threshold:g}" + (" (card)" if setting is sweep.own else ""),
            f"{setting.AP:.3f}",
            f"{setting.AP50:.3f}",
            str(setting.duplicates),
            str(setting.lost),
            str(setting.crowded),
        )
        for setting in sweep.settings
    )
    columns = ("NMS threshold", "AP", "AP50", "duplicates", "lost to NMS", "objects that overlap by more")
    return Finding(
        check="suppression",
        title="NMS threshold: neighbours suppressed, or duplicates left?",
        culprit=f"the NMS threshold ({sweep.own.threshold:g}, where {sweep.best.threshold:g} is best)",
        verdict=verdict,
        reason=reason,
        advice=advice,
        sheets=(Sheet("each threshold on the same candidates", columns, rows),),
        numbers={
            "card": sweep.own.threshold,
            "best": sweep.best.threshold,
            "sweep": [asdict(setting) for setting in sweep.settings],
        },
    )

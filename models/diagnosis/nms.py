"""Check 2: does the NMS threshold suit the data? Too low loses neighbours, too high leaves duplicates."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from models.detections import Detections
from models.diagnosis.finding import Finding, Sheet, Verdict
from models.diagnosis.observation import Observation
from models.evaluation.coco import evaluate
from models.evaluation.curves import MATCHING_IOU, match, on_crowd, overlaps

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# By AP50: AP at stricter IoU rises with the duplicates, among which one box or other lies better.
FAULT, DOUBT = 0.01, 0.004  # AP50 that another threshold would bring
LOST, TWICE = 0.005, 0.1  # objects lost, duplicates more than with the best one, by the number of objects
EVEN = 0.003  # of settings this near to the highest AP50 the one with the fewest mistakes is best


@dataclass(frozen=True)
class Setting:
    """One NMS threshold: its AP, and at the card's score threshold duplicates and lost neighbours.

    duplicates: detections on an object that is found already. lost: objects that only NMS took away.
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
    """The settings by rising threshold, the card's own among them, and how many objects there are."""

    settings: tuple[Setting, ...]
    own: Setting
    objects: int

    @property
    def best(self) -> Setting:
        """About the highest AP50, with the fewest mistakes; of equals the nearest to the card's."""
        enough = max(one.AP50 for one in self.settings) - EVEN
        good = [one for one in self.settings if enough <= one.AP50]
        return min(good, key=lambda s: (s.duplicates + s.lost, abs(s.threshold - self.own.threshold)))


def sweep_thresholds(
    observations: Sequence[Observation], labels: Sequence[str], own: float, score_threshold: float
) -> Sweep:
    """Each threshold on the same candidates; `own` and `score_threshold` are the card's."""
    tried = sorted({*THRESHOLDS, own})
    settings = {value: _try(observations, labels, value, score_threshold) for value in tried}
    return Sweep(tuple(settings.values()), settings[own], sum(len(one.objects) for one in observations))


def _try(
    observations: Sequence[Observation], labels: Sequence[str], threshold: float, score_threshold: float
) -> Setting:
    answers = [one.answer(threshold) for one in observations]
    numbers = evaluate([one.truth for one in observations], answers, labels)
    duplicates = lost = crowded = 0
    for one in observations:
        shown = one.answer(threshold, score_threshold)
        all_shown = _from(one.candidates, score_threshold)
        for label in np.unique(one.labels):
            twice, found = _judge(one, shown, int(label))
            duplicates += twice
            lost += max(0, _findable(one, all_shown, int(label)) - found)
            crowded += _crowded(one, int(label), threshold)
    return Setting(threshold, numbers["AP"], numbers["AP50"], duplicates, lost, crowded)


def _from(found: Detections, score_threshold: float) -> Detections:
    kept = found.scores >= np.float32(score_threshold)
    return Detections(found.boxes[kept], found.labels[kept], found.scores[kept])


def _judge(one: Observation, answer: Detections, label: int) -> tuple[int, int]:
    """Duplicates, and objects found."""
    boxes = answer.boxes[answer.labels == label]
    ious = overlaps(boxes, one.objects[one.labels == label])
    found = match(ious) >= 0
    ignored = on_crowd(boxes, one.truth.boxes[one.truth.ignored & (one.truth.labels == label)])
    twice = ~found & ~ignored & (ious.max(axis=1) >= MATCHING_IOU)
    return int(np.count_nonzero(twice)), int(np.count_nonzero(found))


def _findable(one: Observation, candidates: Detections, label: int) -> int:
    """Objects that the candidates find while nothing is suppressed."""
    boxes = candidates.boxes[candidates.labels == label]
    return int(np.count_nonzero(match(overlaps(boxes, one.objects[one.labels == label])) >= 0))


def _crowded(one: Observation, label: int, threshold: float) -> int:
    objects = one.objects[one.labels == label]
    ious = overlaps(objects, objects)
    np.fill_diagonal(ious, 0.0)
    return int(np.count_nonzero(ious.max(axis=1) > threshold))


def judge_sweep(sweep: Sweep) -> Finding:
    """The card's threshold is at fault where another one gives clearly more AP."""
    own, best = sweep.own, sweep.best
    verdict = _verdict(sweep)
    if verdict == "ok":
        figures = (
            f"{own.threshold:g} gives AP50 {own.AP50:.3f}, the best ({best.threshold:g}) {best.AP50:.3f}"
        )
        reason = f"the card's {figures}; {own.duplicates} duplicates, {own.lost} objects lost"
        return _finding(sweep, verdict, reason, "Nothing to do.")
    what = (
        f"suppresses neighbours: objects lost to it {own.lost}, with {best.threshold:g} {best.lost}"
        if best.threshold > own.threshold
        else f"leaves {own.duplicates} duplicates, {best.threshold:g} leaves {best.duplicates}"
    )
    costs = f"{best.AP - own.AP:.3f} AP and {best.AP50 - own.AP50:.3f} AP50"
    reason = f"nms_threshold = {own.threshold:g} costs {costs}: it {what}"
    advice = f"Set nms_threshold = {best.threshold:g} in the card; nothing needs training."
    return _finding(sweep, verdict, reason, advice)


def _verdict(sweep: Sweep) -> Verdict:
    """By AP50; objects that NMS alone takes away count even where they are too few to move it far."""
    own, best = sweep.own, sweep.best
    cost, lost, twice = best.AP50 - own.AP50, own.lost - best.lost, own.duplicates - best.duplicates
    if cost >= FAULT or (cost >= DOUBT and lost >= LOST * max(1, sweep.objects)):
        return "fault"
    return "suspicious" if cost >= DOUBT or twice >= TWICE * max(1, sweep.objects) else "ok"


def _finding(sweep: Sweep, verdict: Verdict, reason: str, advice: str) -> Finding:
    rows = tuple(
        (
            f"{one.threshold:g}" + (" (card)" if one is sweep.own else ""),
            f"{one.AP:.3f}",
            f"{one.AP50:.3f}",
            str(one.duplicates),
            str(one.lost),
            str(one.crowded),
        )
        for one in sweep.settings
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
            "sweep": [asdict(one) for one in sweep.settings],
        },
    )

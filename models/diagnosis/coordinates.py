"""Check 3a: do the boxes lie where the objects are? Boxes left in another space fit once they are moved back.

Every known mistake is undone on the annotated boxes, one at a time, and it is counted how many of them then
meet a detection of whatever class. If undoing one lets far more meet, that mistake was made.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from models.diagnosis.finding import Finding, Sheet, Verdict, share
from models.diagnosis.observation import Boxes, Floats, Observation
from models.diagnosis.recall import USUAL
from models.evaluation.curves import MATCHING_IOU, overlaps

LEAST, MARGIN = 0.3, 2.0  # share that must fit once moved, and how many times more than as they are
OFFSET, SCALE = 0.1, 1.15  # bias of the centre in object sides, and of the side, that no trained model has
STRIDES = (8, 16, 32)
AS_THEY_ARE = "as they are"


@dataclass(frozen=True)
class Fit:
    """How boxes lie on the objects they match: medians over the matches.

    dx, dy: centre minus the object's, in object sides; px: the same in pixels; side: root of the area ratio.
    """

    matched: int
    dx: float
    dy: float
    px: tuple[float, float]
    side: float


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Share of objects that meet a detection once a mistake is undone, by mistake; fits; and the offsets.

    offsets (M, 2): dx, dy of each match of a detection, in object sides.
    """

    shares: dict[str, float]
    objects: int
    detections: Fit
    proposals: Fit
    offsets: Floats

    @property
    def likeliest(self) -> str:
        """The mistake that explains most, or none."""
        return max(self.shares, key=lambda name: (self.shares[name], name == AS_THEY_ARE))


Undo = Callable[[Boxes, Observation], Boxes]


def _mistakes() -> dict[str, Undo]:
    """Each mistake, and how the annotated boxes are moved to undo it."""
    undone: dict[str, Undo] = {
        AS_THEY_ARE: lambda boxes, _: boxes,
        "x and y of the annotations are swapped": lambda boxes, _: boxes[:, [1, 0, 3, 2]],
        "the annotations are fractions of the image": lambda boxes, one: boxes * _size(one),
        "the annotations are in canvas pixels": lambda boxes, one: boxes / _scale(one),
        "the detections are left in canvas pixels": lambda boxes, one: boxes * _scale(one),
        "the annotations have x, y of the centre where those of a corner belong": _from_centre,
        "the annotations have x2, y2 where width and height belong": _from_corners,
        "the annotations are of images twice as large": lambda boxes, _: boxes / np.float32(2),
        "the annotations are of images half as large": lambda boxes, _: boxes * np.float32(2),
    }
    for stride in STRIDES:
        undone[f"the detections are left in feature-map pixels (stride {stride})"] = _on_map(stride)
    return undone


def _on_map(stride: int) -> Undo:
    return lambda boxes, one: boxes * _scale(one) / np.float32(stride)


def _size(one: Observation) -> Boxes:
    return np.array([one.truth.width, one.truth.height] * 2, np.float32)


def _scale(one: Observation) -> Boxes:
    return np.array([*one.scale, *one.scale], np.float32)


def _from_centre(boxes: Boxes, one: Observation) -> Boxes:
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    return boxes - np.tile(half, 2)


def _from_corners(boxes: Boxes, one: Observation) -> Boxes:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def measure_coordinates(
    observations: Sequence[Observation], nms_threshold: float, score_threshold: float
) -> Coordinates:
    """Detections from the score on, and the first proposals, against the annotated boxes."""
    found = [one.answer(nms_threshold, score_threshold).boxes for one in observations]
    proposed = [one.proposals[:USUAL] for one in observations]
    objects = sum(len(one.objects) for one in observations)
    shares = {name: _share(undo, observations, found, objects) for name, undo in _mistakes().items()}
    matches = _matches(observations, found)
    return Coordinates(
        shares=shares,
        objects=objects,
        detections=_fit(matches),
        proposals=_fit(_matches(observations, proposed)),
        offsets=_offsets(matches),
    )


def _share(undo: Undo, observations: Sequence[Observation], found: Sequence[Boxes], objects: int) -> float:
    met = 0
    for one, boxes in zip(observations, found, strict=True):
        ious = overlaps(boxes, undo(one.objects, one).astype(np.float32))
        met += int(np.count_nonzero(ious.max(axis=0, initial=0.0) >= MATCHING_IOU))
    return share(met, objects)


def _matches(observations: Sequence[Observation], found: Sequence[Boxes]) -> Floats:
    """(M, 8): the box with the highest IoU, from 0.5 on, of each object; and the object."""
    rows = [np.zeros((0, 8))]
    for one, boxes in zip(observations, found, strict=True):
        if len(boxes) and len(one.objects):
            ious = overlaps(boxes, one.objects)
            met = ious.max(axis=0) >= MATCHING_IOU
            rows.append(np.concatenate([boxes[ious.argmax(axis=0)[met]], one.objects[met]], axis=1))
    return np.concatenate(rows).astype(np.float64)


def _offsets(matches: Floats, by_side: bool = True) -> Floats:
    boxes, objects = matches[:, :4], matches[:, 4:]
    centres = (boxes[:, :2] + boxes[:, 2:] - objects[:, :2] - objects[:, 2:]) / 2
    offsets: Floats = centres / (objects[:, 2:] - objects[:, :2]) if by_side else centres
    return offsets


def _fit(matches: Floats) -> Fit:
    if not len(matches):
        return Fit(0, 0.0, 0.0, (0.0, 0.0), 1.0)
    dx, dy = np.median(_offsets(matches), axis=0).tolist()
    px = np.median(_offsets(matches, by_side=False), axis=0).tolist()
    areas = (matches[:, [2, 6]] - matches[:, [0, 4]]) * (matches[:, [3, 7]] - matches[:, [1, 5]])
    return Fit(len(matches), dx, dy, (px[0], px[1]), float(np.median(np.sqrt(areas[:, 0] / areas[:, 1]))))


def judge_coordinates(coordinates: Coordinates) -> Finding:
    """Boxes in another space are a fault; boxes that lie beside the objects on average are suspicious."""
    now, name = coordinates.shares[AS_THEY_ARE], coordinates.likeliest
    moved, fit = coordinates.shares[name], coordinates.detections
    biased = max(abs(fit.dx), abs(fit.dy)) > OFFSET or not 1 / SCALE < fit.side < SCALE
    if moved >= LEAST and moved > MARGIN * now:
        reason = f"{name}: undone, {moved:.0%} of the objects meet a detection; as they are {now:.0%}"
        advice = "Look at a few images with their boxes drawn, and mend the conversion; no training mends it."
        return _finding(coordinates, "fault", reason, advice)
    if fit.matched and biased:
        reason = (
            f"detections lie {fit.dx:+.2f}, {fit.dy:+.2f} object sides beside their objects and are "
            f"{fit.side:.2f} times as large"
        )
        advice = "Compare how boxes are written in the training data and here: corner or centre, from 0 or 1."
        return _finding(coordinates, "suspicious", reason, advice)
    if not fit.matched:
        reason = "no detection lies on an object, and moving boxes does not help"
        return _finding(coordinates, "not measured", reason, "See the other checks first.")
    reason = (
        f"{now:.0%} of the objects meet a detection, whose centre is {fit.px[0]:+.1f}, {fit.px[1]:+.1f} px "
        f"off and side {fit.side:.2f} times the object's: boxes and annotations share one space"
    )
    return _finding(coordinates, "ok", reason, "Nothing to do.")


def _finding(coordinates: Coordinates, verdict: Verdict, reason: str, advice: str) -> Finding:
    fits = {"detections": coordinates.detections, f"first {USUAL} proposals": coordinates.proposals}
    rows = tuple(
        (
            name,
            str(fit.matched),
            f"{fit.dx:+.3f}",
            f"{fit.dy:+.3f}",
            f"{fit.px[0]:+.1f}, {fit.px[1]:+.1f}",
            f"{fit.side:.3f}",
        )
        for name, fit in fits.items()
    )
    ranked = sorted(coordinates.shares.items(), key=lambda item: (item[0] != AS_THEY_ARE, -item[1]))
    shares = tuple((name, f"{value:.3f}") for name, value in ranked[:4])
    columns = ("", "on objects", "offset x", "offset y", "in px", "side ratio")
    return Finding(
        check="coordinates",
        title="Coordinates: do boxes and annotations lie in one space?",
        culprit="the coordinates",
        verdict=verdict,
        reason=reason,
        advice=advice,
        sheets=(
            Sheet("boxes on their objects, medians (offsets in object sides)", columns, rows),
            Sheet("objects that meet a detection, if", ("", "share"), shares),
        ),
        numbers={
            "objects": coordinates.objects,
            "detections": asdict(coordinates.detections),
            "proposals": asdict(coordinates.proposals),
            "shares": coordinates.shares,
        },
    )

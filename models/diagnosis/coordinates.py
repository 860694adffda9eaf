"""Check 3a: are boxes and annotations in one coordinate space?

Each known mistake is undone on the annotated boxes, and the boxes that then match a detection of any class
are counted. If undoing a mistake gives far more matches, that mistake was made.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from models.diagnosis.finding import Finding, Sheet, Verdict, share
from models.diagnosis.inspection import Boxes, Floats, InspectedImage
from models.diagnosis.recall import USUAL
from models.evaluation.curves import MATCHING_IOU, overlaps

LEAST, MARGIN = 0.3, 2.0  # share that must match after undoing, and its ratio to the share unchanged
OFFSET, SCALE = 0.1, 1.15  # bias of the centre, in object sides, and of the side, above any trained model's
STRIDES = (8, 16, 32)
AS_THEY_ARE = "as they are"


@dataclass(frozen=True)
class Fit:
    """Offsets of boxes from the objects they match: medians over the matches.

    dx, dy: centre minus the object's, in object sides; px: the same in pixels; side: root of the area ratio.
    """

    matched: int
    dx: float
    dy: float
    px: tuple[float, float]
    side: float


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Share of objects that match a detection after undoing each mistake; fits; and the offsets.

    offsets (M, 2): dx, dy of each match of a detection, in object sides.
    """

    shares: dict[str, float]
    objects: int
    detections: Fit
    proposals: Fit
    offsets: Floats

    @property
    def likeliest(self) -> str:
        """The mistake that explains most objects, or AS_THEY_ARE."""
        return max(self.shares, key=lambda name: (self.shares[name], name == AS_THEY_ARE))


Undo = Callable[[Boxes, InspectedImage], Boxes]


def _mistakes() -> dict[str, Undo]:
    """Each mistake, with the change of the annotated boxes that undoes it."""
    undone: dict[str, Undo] = {
        AS_THEY_ARE: lambda boxes, _: boxes,
        "x and y of the annotations are swapped": lambda boxes, _: boxes[:, [1, 0, 3, 2]],
        "the annotations are fractions of the image": lambda boxes, image: boxes * _size(image),
        "the annotations are in canvas pixels": lambda boxes, image: boxes / _scale(image),
        "the detections are left in canvas pixels": lambda boxes, image: boxes * _scale(image),
        "the annotations have x, y of the centre where those of a corner belong": _from_centre,
        "the annotations have x2, y2 where width and height belong": _from_corners,
        "the annotations are of images twice as large": lambda boxes, _: boxes / np.float32(2),
        "the annotations are of images half as large": lambda boxes, _: boxes * np.float32(2),
    }
    for stride in STRIDES:
        undone[f"the detections are left in feature-map pixels (stride {stride})"] = _on_map(stride)
    return undone


def _on_map(stride: int) -> Undo:
    return lambda boxes, image: boxes * _scale(image) / np.float32(stride)


def _size(image: InspectedImage) -> Boxes:
    return np.array([image.truth.width, image.truth.height] * 2, np.float32)


def _scale(image: InspectedImage) -> Boxes:
    return np.array([*image.scale, *image.scale], np.float32)


def _from_centre(boxes: Boxes, image: InspectedImage) -> Boxes:
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    return boxes - np.tile(half, 2)


def _from_corners(boxes: Boxes, image: InspectedImage) -> Boxes:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def measure_coordinates(
    images: Sequence[InspectedImage], nms_threshold: float, score_threshold: float
) -> Coordinates:
    """Compare detections from the score on, and the first proposals, with the annotated boxes."""
    found = [image.detections(nms_threshold, score_threshold).boxes for image in images]
    proposed = [image.proposals[:USUAL] for image in images]
    objects = sum(len(image.objects) for image in images)
    shares = {name: _share(undo, images, found, objects) for name, undo in _mistakes().items()}
    matches = _matches(images, found)
    return Coordinates(
        shares=shares,
        objects=objects,
        detections=_fit(matches),
        proposals=_fit(_matches(images, proposed)),
        offsets=_offsets(matches),
    )


def _share(undo: Undo, images: Sequence[InspectedImage], found: Sequence[Boxes], objects: int) -> float:
    matched = 0
    for image, boxes in zip(images, found, strict=True):
        ious = overlaps(boxes, undo(image.objects, image).astype(np.float32))
        matched += int(np.count_nonzero(ious.max(axis=0, initial=0.0) >= MATCHING_IOU))
    return share(matched, objects)


def _matches(images: Sequence[InspectedImage], found: Sequence[Boxes]) -> Floats:
    """(M, 8): the box with the highest IoU, from 0.5 on, of each object; and the object."""
    rows = [np.zeros((0, 8))]
    for image, boxes in zip(images, found, strict=True):
        if len(boxes) and len(image.objects):
            ious = overlaps(boxes, image.objects)
            met = ious.max(axis=0) >= MATCHING_IOU
            rows.append(np.concatenate([boxes[ious.argmax(axis=0)[met]], image.objects[met]], axis=1))
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
    """Boxes in another space are a fault; boxes with a mean offset from the objects are suspicious."""
    now, name = coordinates.shares[AS_THEY_ARE], coordinates.likeliest
    moved, fit = coordinates.shares[name], coordinates.detections
    biased = max(abs(fit.dx), abs(fit.dy)) > OFFSET or not 1 / SCALE < fit.side < SCALE
    if moved >= LEAST and moved > MARGIN * now:
        reason = f"{name}: undone, {moved:.0%} of the objects match a detection; unchanged {now:.0%}"
        advice = "Draw the boxes of a few images, and correct the conversion; training cannot correct it."
        return _finding(coordinates, "fault", reason, advice)
    if fit.matched and biased:
        reason = (
            f"detections are {fit.dx:+.2f}, {fit.dy:+.2f} object sides off their objects and are "
            f"{fit.side:.2f} times as large"
        )
        advice = "Compare the box format of the training data and of these: corner or centre, from 0 or 1."
        return _finding(coordinates, "suspicious", reason, advice)
    if not fit.matched:
        reason = "no detection matches an object, and undoing mistakes does not change that"
        return _finding(coordinates, "not measured", reason, "See the other checks first.")
    reason = (
        f"{now:.0%} of the objects match a detection, whose centre is {fit.px[0]:+.1f}, {fit.px[1]:+.1f} px "
        f"off and side {fit.side:.2f} times the object's: boxes and annotations are in one space"
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
        title="Coordinates: are boxes and annotations in one space?",
        culprit="the coordinates",
        verdict=verdict,
        reason=reason,
        advice=advice,
        sheets=(
            Sheet("boxes and their objects, medians (offsets in object sides)", columns, rows),
            Sheet("objects that match a detection, if", ("", "share"), shares),
        ),
        numbers={
            "objects": coordinates.objects,
            "detections": asdict(coordinates.detections),
            "proposals": asdict(coordinates.proposals),
            "shares": coordinates.shares,
        },
    )

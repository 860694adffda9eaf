"""In which way the boxes of a dataset are written, judged from all of them at once.

The declared way is kept unless nearly every box contradicts it and another way explains nearly every box:
then that one is used, and a note says so. Where two ways remain, an error names the option that decides.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.datasets.dataset import DatasetError
from models.datasets.options import BoxOption, BoxOrder

Floats = npt.NDArray[np.float64]

CERTAIN = 10  # boxes from which on a set may be corrected
FEW = 4  # below, a contradiction is left to the report of each box
FITS, NEARLY = 0.98, 0.97  # share of boxes inside: that make the declared way right, and another possible
CONTRADICTED = 0.9  # share of boxes inside below which the declared way is wrong
UNRELATED, MANY = 0.5, 20  # share of boxes inside, of at least so many, below which no way explains them
SLACK = 0.005  # of a side: annotators draw over the border
PIXELS_FROM = 1.5  # a fraction is below, but for drawing over the border
SMALLEST_SIDE = 16  # px: in smaller images a box below one pixel is not absurd

IN_ORDER = (0, 1, 2, 3)
_EXCHANGED = {"x and y": (1, 0, 3, 2), "width and height": (0, 1, 3, 2)}

_MEANINGS = {
    "xywh": "x, y, width, height",
    "xyxy": "x1, y1, x2, y2",
    "cxcywh": "x and y of the centre, width, height",
}


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes (N, 4) as corners, sizes (N, 2) of their images, both as declared; and how that was."""

    corners: Floats
    sizes: Floats
    order: BoxOrder
    fractions: bool


@dataclass(frozen=True)
class Way:
    """How the numbers of a box are to be read; shift: subtracted from each, px.

    places: where each of the four numbers of the order stands among those written.
    """

    order: BoxOrder
    fractions: bool
    shift: float = 0.0
    places: tuple[int, int, int, int] = IN_ORDER


def written(corners: Floats, order: BoxOrder) -> Floats:
    """The four numbers of which a reader made these corners."""
    first, last = corners[:, :2], corners[:, 2:]
    if order == "xyxy":
        return corners
    start = (first + last) / 2 if order == "cxcywh" else first
    return np.concatenate([start, last - first], axis=1)


def to_corners(numbers: Floats, order: BoxOrder) -> Floats:
    """The corners of boxes whose numbers are in this order."""
    first, last = numbers[:, :2], numbers[:, 2:]
    if order == "xyxy":
        return numbers
    start = first - last / 2 if order == "cxcywh" else first
    return np.concatenate([start, start + last], axis=1)


def choose_way(boxes: Boxes, option: BoxOption | None) -> tuple[Way, list[str]]:
    """The way to read the boxes, and notes if it is not the declared one; raises DatasetError."""
    declared = Way(boxes.order, boxes.fractions)
    finite = np.isfinite(boxes.corners).all(axis=1)
    numbers, sizes = written(boxes.corners[finite], boxes.order), boxes.sizes[finite]
    if not len(numbers):
        return declared, []
    if option == "normalized":
        return Way(boxes.order, True), []
    fractions, notes = _unit(numbers, sizes, boxes.fractions)
    scaled = numbers * np.tile(sizes, 2) if fractions else numbers
    if option is not None:
        return Way(option, fractions), notes
    places, exchanged = (IN_ORDER, []) if fractions else _places(scaled, sizes, boxes.order)
    if exchanged:
        return Way(boxes.order, fractions, places=places), [*notes, *exchanged]
    order, more = _order(scaled, sizes, boxes.order)
    corners = to_corners(scaled, order)
    shift, shifted = (0.0, []) if fractions or order != "xyxy" else _shift(corners, sizes)
    return Way(order, fractions, shift), [*notes, *more, *shifted]


def _unit(numbers: Floats, sizes: Floats, declared: bool) -> tuple[bool, list[str]]:
    """Whether the numbers are fractions of the image's size."""
    largest = np.abs(numbers).max(axis=1)
    if not declared and largest.max() <= 1 + SLACK and sizes.min() >= SMALLEST_SIDE:
        note = f"all {len(numbers)} boxes have numbers from 0 to 1: they are read as fractions of the image"
        return True, [f"{note} (--boxes normalized)"]
    if declared and len(numbers) >= FEW and (largest > PIXELS_FROM).mean() > CONTRADICTED:
        note = f"{(largest > PIXELS_FROM).mean():.0%} of {len(numbers)} boxes have numbers above 1"
        return False, [f"{note}: they are read as pixels, not as fractions of the image"]
    return declared, []


def _inside(corners: Floats, sizes: Floats) -> float:
    """The share of boxes with an area that lie in their images, but for a little at the border."""
    slack = 1 + SLACK * sizes
    ordered = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    kept = (corners[:, :2] >= -slack).all(axis=1) & (corners[:, 2:] <= sizes + slack).all(axis=1)
    return float((ordered & kept).mean())


def _places(numbers: Floats, sizes: Floats, order: BoxOrder) -> tuple[tuple[int, int, int, int], list[str]]:
    """Where the numbers stand if x and y, or width and height, are exchanged in all boxes."""
    now = _inside(to_corners(numbers, order), sizes)
    others: tuple[BoxOrder, ...] = ("xywh", "xyxy")
    explained = any(_inside(to_corners(numbers, other), sizes) >= NEARLY for other in others)
    if len(numbers) < CERTAIN or now >= CONTRADICTED or explained:
        return IN_ORDER, []
    for name, places in _EXCHANGED.items():
        if _inside(to_corners(numbers[:, places], order), sizes) >= NEARLY:
            note = (
                f"{1 - now:.0%} of {len(numbers)} boxes do not fit their images, but do with {name} exchanged"
            )
            return places, [f"{note}: read so"]
    return IN_ORDER, []


def _order(numbers: Floats, sizes: Floats, declared: BoxOrder) -> tuple[BoxOrder, list[str]]:
    """The order of the numbers; raises DatasetError if it is ambiguous."""
    count = len(numbers)
    now = _inside(to_corners(numbers, declared), sizes)
    if now >= FITS or count < FEW:
        return declared, []
    others: tuple[BoxOrder, ...] = tuple(order for order in ("xywh", "xyxy") if order != declared)
    fitting = [order for order in others if _inside(to_corners(numbers, order), sizes) >= NEARLY]
    contradiction = f"{1 - now:.0%} of {count} boxes do not fit their images as {_MEANINGS[declared]}"
    if len(fitting) == 1 and count >= CERTAIN and now < CONTRADICTED:
        order = fitting[0]
        return order, [f"{contradiction}, but do as {_MEANINGS[order]}: read so (--boxes {order})"]
    if fitting:
        choices = " or ".join(f"--boxes {order}" for order in (declared, *fitting) if order != "cxcywh")
        meant = " or ".join(_MEANINGS[order] for order in fitting)
        raise DatasetError(
            f"{contradiction}, and would as {meant}; look at a few, and say which they are: {choices}"
        )
    if now < UNRELATED and count >= MANY:
        raise DatasetError(
            f"{contradiction}, nor in another known way: the annotations may be of other images, or of these "
            "before they were resized or rotated; export them again, or force a way with --boxes"
        )
    return declared, []


def _shift(corners: Floats, sizes: Floats) -> tuple[float, list[str]]:
    """1 if pixels are counted from 1 to one past the border, with the last one excluded."""
    over = corners[:, 2:] - sizes
    past = int((over.max(axis=1) == 1).sum())
    if past < FEW or over.max() > 1 or corners[:, :2].min() < 1:
        return 0.0, []
    note = f"{past} of {len(corners)} boxes end 1 px past the border and none begins at 0: pixels are counted"
    return 1.0, [f"{note} from 1; 1 px is subtracted"]

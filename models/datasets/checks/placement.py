"""From the boxes of annotations to pixels of the displayed images, the same way for all of a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.datasets.checks.coordinates import IN_ORDER, Boxes, Way, choose_way, to_corners, written
from models.datasets.checks.exif import BoxedImage, of_stored_pixels, rotate, scales
from models.datasets.image_size import ImageShape, Size
from models.datasets.options import BoxOrder, ReadOptions
from models.datasets.raw import RawImage

Floats = npt.NDArray[np.float64]
Found = tuple[RawImage, ImageShape]  # an image that is there, and its shape


@dataclass(frozen=True)
class Placement:
    """How boxes become pixels: declared: their order in the files; way: the order and unit they have.

    stored: they are of the pixels before EXIF rotates them; scaled: of the image before it was resized.
    """

    declared: BoxOrder | None
    way: Way | None = None
    stored: bool = False
    scaled: bool = False
    notes: tuple[str, ...] = ()

    @property
    def keeps_areas(self) -> bool:
        """Whether areas in the annotations are of the boxes as they are used."""
        return not self.scaled and (
            self.way is None or self.way == Way(self.declared or self.way.order, False)
        )

    def boxes(self, image: RawImage, shape: ImageShape) -> Floats:
        """The boxes (N, 4) of an image in its displayed pixels, not cut to it."""
        boxes = self._pixels(image, shape)
        stated = usable_size(image)
        if self.scaled and stated and stated != shape.size:
            factors: Floats = np.tile(shape.size, 2) / np.tile(stated, 2)
            return boxes * factors
        if not self.stored or shape.orientation == 1:
            return boxes
        return np.array([rotate(box, shape) for box in boxes.tolist()]).reshape(-1, 4)

    def _pixels(self, image: RawImage, shape: ImageShape) -> Floats:
        boxes = _corners(image)
        fractions = image.normalised
        if self.way is not None and self.declared is not None:
            numbers = written(boxes, self.declared)[:, self.way.places]
            if self.way.order != self.declared or self.way.places != IN_ORDER:
                boxes = to_corners(numbers, self.way.order)
            boxes, fractions = boxes - self.way.shift, self.way.fractions
        size = shape.stored if self.stored else shape.size
        return boxes * np.tile(size, 2) if fractions else boxes


def usable_size(image: RawImage) -> Size | None:
    """The size that an annotation states, if it can be one."""
    return image.size if image.size and min(image.size) > 0 else None


def _corners(image: RawImage) -> Floats:
    return np.array([one.box for one in image.objects], np.float64).reshape(-1, 4)


def place(found: Sequence[Found], declared: BoxOrder | None, options: ReadOptions) -> Placement:
    """Judge the boxes of all images together; raises DatasetError where they can be read in several ways."""
    boxed = [pair for pair in found if pair[0].objects]
    if not boxed:
        return Placement(declared)
    way: Way | None = None
    notes: list[str] = []
    if options.boxes and declared is None:
        notes.append("--boxes is not used: the format names the numbers of a box, or has outlines")
    if declared is not None:
        fractions = all(image.normalised for image, _ in boxed)
        corners = np.concatenate([_corners(image) for image, _ in boxed])
        way, notes = choose_way(Boxes(corners, _sizes(boxed), declared, fractions), options.boxes)
    if way.fractions if way else boxed[0][0].normalised:
        notes += _undecided(boxed, options)
        return Placement(declared, way, options.exif == "ignore", notes=tuple(notes))
    first = Placement(declared, way)
    images = [BoxedImage(shape, usable_size(raw), first.boxes(raw, shape)) for raw, shape in found]
    stored, rotated = of_stored_pixels(images, options.exif)
    scaled, resized = (False, []) if stored or options.boxes else scales(images)
    return Placement(declared, way, stored, scaled, (*notes, *rotated, *resized))


def _undecided(boxed: Sequence[Found], options: ReadOptions) -> list[str]:
    """A note for fractions of images that EXIF turns: they fit either way."""
    turned = sum(shape.size != shape.stored for _, shape in boxed)
    if not turned or options.exif:
        return []
    return [
        f"EXIF rotates {turned} of {len(boxed)} images; the boxes are fractions, which fit either way: they "
        "are taken as displayed (--exif ignore takes them as of the stored pixels)"
    ]


def _sizes(boxed: Sequence[Found]) -> Floats:
    """For each box the largest size that its image may have had when it was annotated."""
    rows = []
    for image, shape in boxed:
        sizes = [shape.size, shape.stored, *([stated] if (stated := usable_size(image)) else [])]
        rows += [np.max(sizes, axis=0)] * len(image.objects)
    return np.array(rows, np.float64)

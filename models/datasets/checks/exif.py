"""Boxes of images that EXIF rotates or that were resized: of which pixels they are, judged from all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.datasets.dataset import DatasetError
from models.datasets.image_size import FIRST_TURNED, ImageShape, Size
from models.datasets.options import ExifOption

Floats = npt.NDArray[np.float64]
CERTAIN = 10  # boxes from which on geometry alone decides
OUT, FEW_OUT = 0.02, 0.005  # share of boxes past the border that contradicts a size, and that is carelessness
TOO_MANY_OUT = 0.1
SAME_SHAPE = 0.02  # relative difference of two ratios of sizes that rounding explains
SLACK = 0.005  # of a side


@dataclass(frozen=True, eq=False)
class BoxedImage:
    """An image with its boxes (N, 4), px, and the size that its annotation states."""

    shape: ImageShape
    stated: Size | None
    boxes: Floats

    @property
    def is_turned(self) -> bool:
        return self.shape.orientation >= FIRST_TURNED and self.shape.size[0] != self.shape.size[1]

    @property
    def is_resized(self) -> bool:
        return self.stated not in (None, self.shape.size, self.shape.stored)


def of_stored_pixels(images: Sequence[BoxedImage], option: ExifOption | None) -> tuple[bool, list[str]]:
    """Whether boxes are of the stored pixels, before EXIF rotates them; raises DatasetError if unclear."""
    if option is not None:
        return option == "ignore", []
    turned = [image for image in images if image.is_turned]
    boxed = [image for image in turned if len(image.boxes)]
    if not boxed:
        return False, []
    stated = sum(image.stated == image.shape.stored for image in boxed)
    displayed = _out([(image.boxes, image.shape.size) for image in boxed])
    stored = _out([(image.boxes, image.shape.stored) for image in boxed])
    count = f"EXIF rotates {len(turned)} of {len(images)} images"
    if stored <= FEW_OUT and displayed > OUT and (stated or sum(len(i.boxes) for i in boxed) >= CERTAIN):
        note = f"{count}, and {displayed:.0%} of their boxes fit only the stored pixels: all boxes"
        return True, [f"{note} are rotated with the images (--exif ignore)"]
    if stated and displayed <= FEW_OUT and stored > OUT:
        return False, [f"{count}; the annotations state the stored sizes, but their boxes are as displayed"]
    if stated:
        sizes = f"{_size(boxed[0].shape.stored)}, displayed {_size(boxed[0].shape.size)}"
        raise DatasetError(
            f"{count}, and {stated} annotations state the size of the stored pixels (such as {sizes}): their "
            "boxes may be of either; look at one, and give --exif ignore (boxes of the stored pixels) or "
            "--exif apply (boxes of the image as displayed)"
        )
    return False, []


def scales(images: Sequence[BoxedImage]) -> tuple[bool, list[str]]:
    """Whether images were resized after they were annotated, so that boxes must be; raises DatasetError."""
    resized = [image for image in images if image.is_resized and len(image.boxes)]
    if not resized:
        return False, []
    stated = [(image.boxes, image.stated or image.shape.size) for image in resized]
    actual = _out([(image.boxes, image.shape.size) for image in resized])
    if actual <= TOO_MANY_OUT or _out(stated) > FEW_OUT or sum(len(b) for b, _ in stated) < CERTAIN:
        return False, []
    count = f"{len(resized)} images have another size than annotated, and {actual:.0%} of their boxes"
    if all(_same_shape(image) for image in resized):
        return True, [f"{count} fit only that: the boxes are scaled to the images"]
    if all(image.stated == image.shape.size[::-1] for image in resized):
        raise DatasetError(
            f"{count} fit only the annotated size, which has width and height exchanged: the images were "
            "rotated after they were annotated; rotate them back, or export the annotations again"
        )
    raise DatasetError(
        f"{count} fit only that, which has another shape: the images were cropped or replaced since they "
        "were annotated; use the annotated images, or export the annotations again"
    )


def _size(size: Size) -> str:
    return "{} x {}".format(*size)


def _same_shape(image: BoxedImage) -> bool:
    if image.stated is None or min(image.stated) <= 0:
        return False
    ratios = [now / then for now, then in zip(image.shape.size, image.stated, strict=True)]
    return abs(ratios[0] / ratios[1] - 1) <= SAME_SHAPE


def _out(pairs: Sequence[tuple[Floats, Size]]) -> float:
    """The share of boxes that run past the border of an image of this size."""
    out = [
        bool((box[2:] > np.array(size) * (1 + SLACK) + 1).any())
        for boxes, size in pairs
        for box in boxes
        if np.isfinite(box).all()
    ]
    return sum(out) / len(out) if out else 0.0


def rotate(box: Sequence[float], shape: ImageShape) -> tuple[float, float, float, float]:
    """A box of the stored pixels, as displayed."""
    x1, y1, x2, y2 = box
    width, height = shape.stored
    match shape.orientation:
        case 2:
            return width - x2, y1, width - x1, y2
        case 3:
            return width - x2, height - y2, width - x1, height - y1
        case 4:
            return x1, height - y2, x2, height - y1
        case 5:
            return y1, x1, y2, x2
        case 6:
            return height - y2, x1, height - y1, x2
        case 7:
            return height - y2, width - x2, height - y1, width - x1
        case 8:
            return y1, width - x2, y2, width - x1
    return x1, y1, x2, y2

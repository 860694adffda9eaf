"""Augmentation of training images by torchvision's v2 transforms: mirror, zoom, colour, mosaic.

All random numbers come from torch's global generator, so its seed determines the result.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

GREY = 114  # fills what lies outside the image; near the mean of most photographs
MIDDLE = (0.35, 0.65)  # of a mosaic's sides: where its four images meet
SMALLEST_CUT_BOX = 1.0  # px; a box that is cut further is dropped


@dataclass(frozen=True)
class Augmentation:
    """The changes made to training images, with their probabilities and ranges."""

    mirror: bool = True
    flip: bool = False  # upside down: for images without an up, such as micrographs
    turn: bool = False  # transposed, a whole batch at a time: with both mirrors, all eight symmetries
    zoom: tuple[float, float] = (1.0, 1.0)
    colour: float = 0.0  # brightness, contrast and saturation change by up to this share
    mosaic: float = 0.0  # share of images that are made of four
    visible: float = 0.4  # a box that keeps less than this share of its area is dropped

    @property
    def whole(self) -> "Augmentation":
        """The same without zoom and mosaic, which cut images, for the end of a run."""
        return replace(self, zoom=(1.0, 1.0), mosaic=0.0)


@dataclass(frozen=True, eq=False)
class Sample:
    """A training image: uint8 pixels (3, H, W), boxes (N, 4) xyxy px on them, labels (N,) from 1."""

    pixels: tv_tensors.Image
    boxes: tv_tensors.BoundingBoxes
    labels: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.pixels.shape[-2], self.pixels.shape[-1]

    def apply(self, transform: v2.Transform) -> "Sample":
        """The sample with a transform of pixels and boxes."""
        pixels, boxes = transform(self.pixels, self.boxes)
        return Sample(pixels, boxes, self.labels)


def to_sample(
    pixels: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> Sample:
    """A sample from decoded pixels (H, W, 3) and annotations."""
    image = tv_tensors.Image(torch.from_numpy(np.array(pixels)).permute(2, 0, 1))
    return Sample(image, _boxes(torch.from_numpy(np.array(boxes)), image), torch.from_numpy(np.array(labels)))


def _boxes(boxes: Tensor, image: Tensor) -> tv_tensors.BoundingBoxes:
    return tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=tuple(image.shape[-2:]))


def augment(sample: Sample, change: Augmentation) -> Sample:
    """The sample, changed at random as `change` allows; it keeps its size."""
    if change.mirror:
        sample = sample.apply(v2.RandomHorizontalFlip())
    if change.flip:
        sample = sample.apply(v2.RandomVerticalFlip())
    if change.zoom != (1.0, 1.0):
        low, high = (math.log(factor) for factor in change.zoom)
        sample = zoomed(sample, math.exp(torch.empty(()).uniform_(low, high).item()), change.visible)
    if change.colour:
        amount = change.colour
        sample = sample.apply(v2.ColorJitter(amount, amount, amount))
    return sample


def transposed(sample: Sample) -> Sample:
    """The sample mirrored at its diagonal: x and y change places."""
    pixels = tv_tensors.Image(sample.pixels.transpose(-2, -1))
    return Sample(pixels, _boxes(sample.boxes[:, [1, 0, 3, 2]], pixels), sample.labels)


def zoomed(sample: Sample, scale: float, visible: float) -> Sample:
    """Objects `scale` times as large, the image as large as it was: a random cut, or set on grey."""
    size = [max(1, round(side * scale)) for side in sample.size]
    return _cut(sample.apply(v2.Resize(size)), sample.size, visible)


def _cut(sample: Sample, size: tuple[int, int], visible: float) -> Sample:
    """A random window (height, width), grey outside the image; boxes end at its border or are dropped."""
    cut = sample.apply(v2.RandomCrop(size, pad_if_needed=True, fill=GREY))
    sides = cut.boxes[:, 2:] - cut.boxes[:, :2]
    before = sample.boxes[:, 2:] - sample.boxes[:, :2]
    keep = (sides.prod(1) >= visible * before.prod(1)) & (sides >= SMALLEST_CUT_BOX).all(1)
    return Sample(cut.pixels, _boxes(cut.boxes[keep], cut.pixels), cut.labels[keep])


def mosaic(samples: list[Sample], change: Augmentation) -> Sample:
    """Four samples, each augmented on its own, in the quarters of a canvas of the first one's size."""
    height, width = samples[0].size
    share = torch.empty(2).uniform_(*MIDDLE).tolist()
    middle_y, middle_x = int(height * share[0]), int(width * share[1])
    canvas = torch.empty_like(samples[0].pixels)
    boxes, labels = [], []
    quarters = [
        (y, x) for y in ((0, middle_y), (middle_y, height)) for x in ((0, middle_x), (middle_x, width))
    ]
    for sample, ((top, bottom), (left, right)) in zip(samples, quarters, strict=True):
        part = _cut(augment(sample, change), (bottom - top, right - left), change.visible)
        canvas[:, top:bottom, left:right] = part.pixels
        boxes.append(part.boxes + torch.tensor([left, top, left, top]))
        labels.append(part.labels)
    pixels = tv_tensors.Image(canvas)
    return Sample(pixels, _boxes(torch.cat(boxes), pixels), torch.cat(labels))

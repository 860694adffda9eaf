"""Augmentation of training images: mirror, turn, zoom, colour, mosaic. Boxes follow their pixels."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

GREY = 114.0  # fills what lies outside the image; near the mean of most photographs


@dataclass(frozen=True)
class Augmentation:
    """Which changes are made, and how far they go; probabilities and ranges."""

    mirror: bool = True
    flip: bool = False  # upside down: for pictures without an up, such as micrographs
    turn: bool = False  # on its side, a whole batch at a time: with both mirrors, all eight symmetries
    zoom: tuple[float, float] = (1.0, 1.0)
    colour: float = 0.0  # brightness, contrast and saturation change by up to this share
    mosaic: float = 0.0  # how often four images share one canvas
    visible: float = 0.4  # a box that keeps less than this of its area after cutting is dropped

    @property
    def whole(self) -> "Augmentation":
        """The same without what cuts images: the end of a run sees borders as the annotators saw them."""
        return replace(self, zoom=(1.0, 1.0), mosaic=0.0)


@dataclass(frozen=True, eq=False)
class Sample:
    """A training image: pixels (3, H, W) float32 in 0..255, boxes (N, 4) xyxy px, labels (N,) from 1."""

    pixels: Tensor
    boxes: Tensor
    labels: Tensor


def to_sample(
    pixels: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> Sample:
    """A sample from decoded pixels (H, W, 3) and annotations."""
    tensor = torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float()
    return Sample(tensor, torch.from_numpy(np.array(boxes)), torch.from_numpy(np.array(labels)))


def augment(sample: Sample, change: Augmentation, rng: np.random.Generator) -> Sample:
    """One sample, changed as `change` allows; it keeps its size."""
    if change.mirror and rng.random() < 0.5:
        sample = mirrored(sample)
    if change.flip and rng.random() < 0.5:
        sample = flipped(sample)
    if change.zoom != (1.0, 1.0):
        sample = zoomed(sample, float(np.exp(rng.uniform(*np.log(change.zoom)))), change.visible, rng)
    if change.colour:
        sample = recoloured(sample, change.colour, rng)
    return sample


def mirrored(sample: Sample) -> Sample:
    """Left and right change places."""
    width = sample.pixels.shape[2]
    x1, y1, x2, y2 = sample.boxes.unbind(1)
    boxes = torch.stack([width - x2, y1, width - x1, y2], 1)
    return Sample(sample.pixels.flip(2), boxes, sample.labels)


def flipped(sample: Sample) -> Sample:
    """Top and bottom change places."""
    height = sample.pixels.shape[1]
    x1, y1, x2, y2 = sample.boxes.unbind(1)
    boxes = torch.stack([x1, height - y2, x2, height - y1], 1)
    return Sample(sample.pixels.flip(1), boxes, sample.labels)


def turned(sample: Sample) -> Sample:
    """Mirrored at the diagonal: x and y change places."""
    return Sample(sample.pixels.transpose(1, 2), sample.boxes[:, [1, 0, 3, 2]], sample.labels)


def zoomed(sample: Sample, scale: float, visible: float, rng: np.random.Generator) -> Sample:
    """Objects `scale` times as large, the image as large as it was: a random cut, or set on grey."""
    height, width = sample.pixels.shape[1:]
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    size = new_height, new_width
    resized = F.interpolate(sample.pixels[None], size, mode="bilinear", antialias=scale < 1)[0]
    top, left = (_offset(rng, new - old) for new, old in ((new_height, height), (new_width, width)))
    pixels = torch.full_like(sample.pixels, GREY)
    into = pixels[:, max(0, -top) : max(0, -top) + new_height, max(0, -left) : max(0, -left) + new_width]
    source = resized[:, max(0, top) : max(0, top) + height, max(0, left) : max(0, left) + width]
    into.copy_(source)
    ratio = torch.tensor([new_width / width, new_height / height]).repeat(2)
    shift = torch.tensor([left, top]).repeat(2)
    return _cut(Sample(pixels, sample.boxes * ratio - shift, sample.labels), visible)


def _offset(rng: np.random.Generator, room: int) -> int:
    """Where a window begins in a larger image (0..room), or an image in a larger window (room..0)."""
    return int(rng.integers(0, room + 1)) if room >= 0 else -int(rng.integers(0, -room + 1))


def _cut(sample: Sample, visible: float) -> Sample:
    """Boxes end at the image's border; those that lose too much of themselves are dropped."""
    height, width = sample.pixels.shape[1:]
    limit = torch.tensor([width, height, width, height], dtype=sample.boxes.dtype)
    boxes = torch.minimum(sample.boxes.clamp(min=0), limit)
    keep = (_area(boxes) >= visible * _area(sample.boxes)) & ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)
    return Sample(sample.pixels, boxes[keep], sample.labels[keep])


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


def recoloured(sample: Sample, amount: float, rng: np.random.Generator) -> Sample:
    """Brightness, contrast and saturation changed, each by up to `amount`."""
    brightness, contrast, saturation = (float(x) for x in 1 + rng.uniform(-amount, amount, 3))
    pixels = sample.pixels * brightness
    pixels = pixels.mean() + (pixels - pixels.mean()) * contrast
    grey = pixels.mean(0, keepdim=True)
    pixels = (grey + (pixels - grey) * saturation).clamp(0, 255)
    return Sample(pixels, sample.boxes, sample.labels)


def mosaic(samples: list[Sample], change: Augmentation, rng: np.random.Generator) -> Sample:
    """Four samples, each at its own scale, in the quarters of a canvas of the first one's size."""
    height, width = samples[0].pixels.shape[1:]
    middle_y, middle_x = (int(side * rng.uniform(0.35, 0.65)) for side in (height, width))
    canvas = torch.full_like(samples[0].pixels, GREY)
    quarters = [(0, 0, middle_y, middle_x), (0, middle_x, middle_y, width)]
    quarters += [(middle_y, 0, height, middle_x), (middle_y, middle_x, height, width)]
    boxes, labels = [], []
    for sample, (top, left, bottom, right) in zip(samples, quarters, strict=True):
        part = _quarter(sample, bottom - top, right - left, change, rng)
        canvas[:, top:bottom, left:right] = part.pixels
        boxes.append(part.boxes + torch.tensor([left, top]).repeat(2))
        labels.append(part.labels)
    return Sample(canvas, torch.cat(boxes), torch.cat(labels))


def _quarter(
    sample: Sample, height: int, width: int, change: Augmentation, rng: np.random.Generator
) -> Sample:
    """A random window of the sample, (height, width), after a zoom of its own."""
    changed = augment(sample, change, rng)
    top = _offset(rng, changed.pixels.shape[1] - height)
    left = _offset(rng, changed.pixels.shape[2] - width)
    window = torch.full((3, height, width), GREY)
    source = changed.pixels[:, max(0, top) : max(0, top) + height, max(0, left) : max(0, left) + width]
    window[
        :, max(0, -top) : max(0, -top) + source.shape[1], max(0, -left) : max(0, -left) + source.shape[2]
    ] = source
    shift = torch.tensor([left, top]).repeat(2)
    return _cut(Sample(window, changed.boxes - shift, changed.labels), change.visible)

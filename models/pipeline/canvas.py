"""Canvas geometry: resizes and pads an image for the network, and maps boxes back to image pixels."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.images.decoder import Image
from models.pipeline.resize import resize_opencv, resize_pillow
from models.zoo.sections import Preprocessing

TORCHVISION = Preprocessing()
MEAN = torch.tensor(TORCHVISION.mean)  # ImageNet, RGB: torchvision's detectors were trained with it
STD = torch.tensor(TORCHVISION.std)
RESIZES = {"pillow": resize_pillow, "opencv": resize_opencv}

ToDevice = Callable[[Tensor], Tensor]


class Placed:
    """Where an image lies: `content` is its (height, width) in the canvas, `image_size` as displayed."""

    content: tuple[int, int]
    image_size: tuple[int, int]

    def to_image(self, boxes: Tensor) -> Tensor:
        """Boxes (N, 4) xyxy from canvas pixels to image pixels."""
        (height, width), (new_height, new_width) = self.image_size, self.content
        ratio = torch.tensor([width / new_width, height / new_height], device=boxes.device)
        return boxes * ratio.repeat(2)


@dataclass(frozen=True, eq=False)
class Canvas(Placed):
    """A network input: pixels (H, W, 3) float32 RGB, normalised, zero-padded right and below."""

    pixels: Tensor
    content: tuple[int, int]
    image_size: tuple[int, int]

    @property
    def key(self) -> tuple[int, int]:
        """Height and width of the canvas: only canvases with equal keys share a batch."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels."""
        return self.pixels.numel() * self.pixels.element_size()

    def make(self, _: ToDevice) -> Tensor:
        """The pixels, wherever they are."""
        return self.pixels


@dataclass(frozen=True, eq=False)
class StagedCanvas(Placed):
    """A canvas (height, width) that is still to be made, of `nbytes` of the image on the host.

    `make` sends these to a device, and computes the pixels of the canvas there.
    """

    make: Callable[[ToDevice], Tensor]
    key: tuple[int, int]
    nbytes: int
    content: tuple[int, int]
    image_size: tuple[int, int]


def resized(height: int, width: int, min_size: int, max_size: int) -> tuple[int, int]:
    """Height and width after resize: short side `min_size`, unless the long side would exceed `max_size`."""
    scale = min(min_size / min(height, width), max_size / max(height, width))
    return max(1, math.floor(height * scale)), max(1, math.floor(width * scale))


def resized_by(library: str, sides: tuple[int, int], min_size: int, max_size: int) -> tuple[int, int]:
    """As `resized`, with the library's rounding: "torch", "pillow" as detectron2, "opencv" as mmdetection."""
    if library == "torch":
        return resized(*sides, min_size, max_size)
    if library == "opencv":
        scale = min(max_size / max(sides), min_size / min(sides))
        return _nearest(sides[0] * scale), _nearest(sides[1] * scale)
    scale = min_size / min(sides)
    short_first = sides[0] < sides[1]
    height, width = (min_size * 1.0, scale * sides[1]) if short_first else (scale * sides[0], min_size * 1.0)
    if max(height, width) > max_size:
        scale = max_size / max(height, width)
        height, width = height * scale, width * scale
    return _nearest(height), _nearest(width)


def _nearest(side: float) -> int:
    return max(1, int(side + 0.5))


def _keep_on_host(tensor: Tensor) -> Tensor:
    return tensor


def prepare(
    image: Image,
    min_size: int,
    max_size: int,
    send: ToDevice = _keep_on_host,
    how: Preprocessing = TORCHVISION,
) -> Canvas:
    """Normalise, resize and pad, by default as torchvision's `GeneralizedRCNNTransform` does for one image.

    `send` copies the needed rows to the device, on which everything after that is computed.
    """
    hold = None if send is _keep_on_host else _keep_on_host
    staged = stage(image, min_size, max_size, hold, how)
    return Canvas(staged.make(send), staged.content, staged.image_size)


def stage(
    image: Image,
    min_size: int,
    max_size: int,
    hold: ToDevice | None = None,
    how: Preprocessing = TORCHVISION,
    fit: Callable[[tuple[int, int]], tuple[int, int]] | None = None,
) -> StagedCanvas:
    """What `prepare` does on the host; `make` does the rest.

    `hold` copies what is to be sent, such as to pinned memory; None if the canvas is made on the host. `fit`
    gives the (height, width) of a larger canvas in place of its own.
    """
    height, width = resized_by(how.resize, (image.height, image.width), min_size, max_size)
    down, across = (math.ceil(side / how.pad_to) * how.pad_to for side in (height, width))
    key = fit((down, across)) if fit else (down, across)
    rows, resize = _content(image, (height, width), how)
    held = tuple(hold(part) for part in rows) if hold else rows

    def make(send: ToDevice) -> Tensor:
        return _padded(resize(held, send), key, (height, width), how)

    return StagedCanvas(
        make,
        key,
        sum(part.nbytes for part in held),
        (height, width),
        (image.height, image.width),
    )


def _padded(content: Tensor, key: tuple[int, int], size: tuple[int, int], how: Preprocessing) -> Tensor:
    """The normalised content (H, W, 3), zero-padded right and below."""
    mean, spread = normalisation(content.device, how)
    pixels = torch.empty(*key, 3, device=content.device)
    height, width = size
    pixels[height:] = 0
    pixels[:height, width:] = 0
    shown = pixels.view(len(pixels), -1)[:height, : 3 * width]
    torch.addcmul(mean.repeat(width), content, spread.repeat(width), out=shown)
    return pixels


@lru_cache
def normalisation(device: torch.device, how: Preprocessing) -> tuple[Tensor, Tensor]:
    """Offset and factor per channel, RGB, that normalise a value in 0..255: value * factor + offset."""
    order = slice(None, None, -1 if how.channels == "bgr" else 1)
    mean, std = torch.tensor(how.mean[order]), torch.tensor(how.std[order])
    return (-mean / std).to(device), (1 / (how.scale * std)).to(device)


Rows = tuple[Tensor, ...]
"""The touched rows of an image, uint8: whole, or the pixels left and right of each new one."""

Resize = Callable[[Rows, ToDevice], Tensor]
"""Sends the rows and resizes them: float32 (height, width * 3) in 0..255, channels interleaved."""


def _content(image: Image, size: tuple[int, int], how: Preprocessing) -> tuple[Rows, Resize]:
    """What is to be sent of an image, and what is to be done with it then."""
    height, width = size
    if how.resize == "torch":
        down, across = _taps_of(image, 0, height), _taps_of(image, 1, width)
        return _gather(image, width, down, across), partial(_resize, down, across)
    if image.draft:
        raise ValueError("a draft lacks pixels that this resize reads; decode without canvas_limits")
    pixels = RESIZES[how.resize](image.pixels, height, width)
    return (torch.from_numpy(pixels.reshape(height, -1).copy()),), _as_float


def _as_float(rows: Rows, send: ToDevice) -> Tensor:
    return send(rows[0]).float()


def _gather(image: Image, width: int, down: "_Taps", across: "_Taps") -> Rows:
    """The pixels that contribute: what is to be sent, in as few bytes and as little work as possible."""
    rows = image.pixels.reshape(len(image.pixels), -1)
    if not down.all_touched:
        rows = rows[down.touched]
    if image.pixels.shape[1] <= 2 * width:  # else the gathered pixels are fewer bytes
        return (torch.from_numpy(rows if rows.flags.writeable else rows.copy()),)  # as torch warns
    return tuple(torch.from_numpy(rows.take(column, 1)) for column in across.bytes)


def _resize(down: "_Taps", across: "_Taps", rows: Rows, send: ToDevice) -> Tensor:
    """Bilinear resize without antialiasing.

    Only the source pixels that contribute are converted to float: a half to a third of the time of torch's
    kernel, and little memory for a large image. Of whole rows, interpolates between rows first, as a row is
    contiguous; else within rows, as output rows share them.
    """
    ends = [send(part) for part in rows]
    if len(ends) == 1:
        return _within_rows(across, _between_rows(down, ends[0], send), send)
    left, right = ends
    lines = _lerp(left, right, send(across.weight.repeat_interleave(3)))
    return _between_rows(down, lines, send)


def _between_rows(down: "_Taps", rows: Tensor, send: ToDevice) -> Tensor:
    height = len(down.before)
    order = [] if down.disjoint else [send(torch.from_numpy(row)) for row in (down.before, down.after)]
    above, below = [rows.index_select(0, row) for row in order] or (rows[:height], rows[height:])
    return _lerp(above, below, send(down.weight[:, None]))


def _within_rows(across: "_Taps", rows: Tensor, send: ToDevice) -> Tensor:
    left, right = (rows.index_select(1, send(torch.from_numpy(column))) for column in across.bytes)
    return left.lerp_(right, send(across.weight.repeat_interleave(3)))


def _lerp(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    """Interpolate bytes; or floats, in the memory of `start`."""
    return start.float().lerp_(end.float(), weight)


@dataclass(frozen=True, eq=False)
class _Taps:
    """Interpolation along an axis: the source pixels used, and for each new pixel its neighbours among them.

    `before` and `after` index `touched`; `weight` is that of `after`.
    """

    touched: npt.NDArray[np.int64]
    before: npt.NDArray[np.int64]
    after: npt.NDArray[np.int64]
    weight: Tensor
    all_touched: bool  # every source pixel, in its order

    @property
    def bytes(self) -> list[npt.NDArray[np.int64]]:
        """Bytes of a row before and after each new one: numpy has no fast path for 3-byte pixels."""
        ends = self.touched[self.before], self.touched[self.after]
        return [(3 * pixel[:, None] + np.arange(3)).reshape(-1) for pixel in ends]

    @property
    def disjoint(self) -> bool:
        """Whether new pixels share no source pixel: `touched` is then all `before`, then all `after`."""
        return len(self.touched) == 2 * len(self.before)


def _taps_of(image: Image, axis: int, new_size: int) -> _Taps:
    stored = image.pixels.shape[axis]
    if draft := image.draft:
        size, start = (image.height, image.width)[axis], (draft.top, draft.left)[axis]
        return _taps(stored, new_size, size, draft.scale, start)
    return _taps(stored, new_size, stored, 1, 0)


@lru_cache(maxsize=256)
def _taps(stored: int, new_size: int, size: int, scale: int, start: int) -> _Taps:
    """The interpolation from `stored` pixels, each of `scale` px of `size` from `start` on, to new ones.

    torch's kernel computes the ratio in float32 and rounds again at the end, so this does too: at pixel 1000
    the exact ratio would change the weights by 1e-4. Cached, as images come in few sizes.
    """
    ratio = torch.tensor(size / new_size, dtype=torch.float32).double()
    positions = (torch.arange(new_size).double() + 0.5) * ratio  # on the image
    centres = ((positions - start) / scale - 0.5).clamp_(min=0).float()
    low = centres.long().clamp_(max=stored - 1)
    both = torch.cat([low, (low + 1).clamp_(max=stored - 1)]).numpy()
    touched, index = np.unique(both, return_inverse=True)
    if len(touched) == len(both):
        touched, index = both, np.arange(len(both))
    complete = np.array_equal(touched, np.arange(stored))
    return _Taps(touched, index[:new_size], index[new_size:], centres - low, complete)

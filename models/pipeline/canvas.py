"""Canvas geometry: resizes and pads an image for the network, and maps boxes back to image pixels."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.images.decoder import Image

DIVISOR = 32  # the coarsest stride of the feature pyramids; torchvision pads to it too
MEAN = torch.tensor([0.485, 0.456, 0.406])  # ImageNet, RGB: torchvision's detectors were trained with it
STD = torch.tensor([0.229, 0.224, 0.225])

ToDevice = Callable[[Tensor], Tensor]
UNLIMITED = nullcontext()


@dataclass(frozen=True, eq=False)
class Canvas:
    """A network input: pixels (H, W, 3) float32, normalised, zero-padded right and below to /32."""

    pixels: Tensor
    content: tuple[int, int]  # height, width of the resized image inside the canvas
    image_size: tuple[int, int]  # height, width of the image as displayed
    ready: torch.Event | None = None  # set if another stream writes the pixels: wait for it before reading

    @property
    def key(self) -> tuple[int, int]:
        """Height and width of the canvas: only canvases with equal keys share a batch."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels."""
        return self.pixels.numel() * self.pixels.element_size()

    def to_image(self, boxes: Tensor) -> Tensor:
        """Boxes (N, 4) xyxy from canvas pixels to image pixels."""
        (height, width), (new_height, new_width) = self.image_size, self.content
        ratio = torch.tensor([width / new_width, height / new_height], device=boxes.device)
        return boxes * ratio.repeat(2)


def resized(height: int, width: int, min_size: int, max_size: int) -> tuple[int, int]:
    """Height and width after resize: short side `min_size`, unless the long side would exceed `max_size`."""
    scale = min(min_size / min(height, width), max_size / max(height, width))
    return max(1, math.floor(height * scale)), max(1, math.floor(width * scale))


def _keep_on_host(tensor: Tensor) -> Tensor:
    return tensor


def prepare(
    image: Image,
    min_size: int,
    max_size: int,
    send: ToDevice = _keep_on_host,
    limit: AbstractContextManager[object] = UNLIMITED,
) -> Canvas:
    """Normalise, resize and pad as torchvision's `GeneralizedRCNNTransform` does for one image.

    `send` copies the needed rows to the device, on which everything after that is computed, inside `limit`:
    before it nothing is on the device, after it the canvas alone.
    """
    height, width = resized(image.height, image.width, min_size, max_size)
    rows = _gather(image, height, width, to_send=send is not _keep_on_host)
    with limit:
        return _compute(rows, height, width, (image.height, image.width), send)


def _compute(rows: "_Rows", height: int, width: int, image_size: tuple[int, int], send: ToDevice) -> Canvas:
    content = _resize(rows, height, send)
    mean, spread = _normalisation(content.device)
    pixels = torch.zeros(_padded(height), _padded(width), 3, device=content.device)
    shown = pixels.view(len(pixels), -1)[:height, : 3 * width]
    torch.addcmul(mean.repeat(width), content, spread.repeat(width), out=shown)
    return Canvas(pixels, (height, width), image_size)


@lru_cache
def _normalisation(device: torch.device) -> tuple[Tensor, Tensor]:
    """Offset and factor per channel that normalise a value in 0..255: value * factor + offset."""
    return (-MEAN / STD).to(device), (1 / (255 * STD)).to(device)


def _padded(side: int) -> int:
    return math.ceil(side / DIVISOR) * DIVISOR


@dataclass(frozen=True, eq=False)
class _Rows:
    """The touched rows of an image, uint8: whole, or the pixels left and right of each new one."""

    pixels: tuple[Tensor, ...]
    down: "_Taps"
    across: "_Taps"


def _gather(image: Image, height: int, width: int, to_send: bool) -> _Rows:
    """The pixels that contribute: what is to be sent, in as few bytes and as little work as possible."""
    down, across = _taps_of(image, 0, height), _taps_of(image, 1, width)
    rows = image.pixels.reshape(len(image.pixels), -1)[down.touched]
    if to_send and image.pixels.shape[1] <= 2 * width:  # else the gathered pixels are fewer bytes
        return _Rows((torch.from_numpy(rows),), down, across)
    gathered = [torch.from_numpy(rows.take(column, 1)) for column in across.bytes]
    return _Rows(tuple(gathered), down, across)


def _resize(rows: _Rows, height: int, send: ToDevice) -> Tensor:
    """Bilinear resize without antialiasing: float32 (height, width * 3) in 0..255, channels interleaved.

    Only the source pixels that contribute are converted to float: a half to a third of the time of torch's
    kernel, and little memory for a large image. Interpolates within rows first, as output rows share them,
    then between rows.
    """
    down, across = rows.down, rows.across
    ends = [send(part) for part in rows.pixels]
    if len(ends) == 1:
        ends = [ends[0].index_select(1, send(torch.from_numpy(column))) for column in across.bytes]
    left, right = ends
    order = [] if down.disjoint else [send(torch.from_numpy(row)) for row in (down.before, down.after)]
    rightness, belowness = send(across.weight.repeat_interleave(3)), send(down.weight[:, None])
    lines = left.float().lerp_(right.float(), rightness)
    above, below = [lines.index_select(0, row) for row in order] or (lines[:height], lines[height:])
    return above.lerp_(below, belowness)


@dataclass(frozen=True, eq=False)
class _Taps:
    """Interpolation along an axis: the source pixels used, and for each new pixel its neighbours among them.

    `before` and `after` index `touched`; `weight` is that of `after`.
    """

    touched: npt.NDArray[np.int64]
    before: npt.NDArray[np.int64]
    after: npt.NDArray[np.int64]
    weight: Tensor

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
    return _Taps(touched, index[:new_size], index[new_size:], centres - low)

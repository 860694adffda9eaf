"""Canvas geometry: an image resized and padded for the network, and boxes brought back to image pixels."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from models.images import Image, Pixels

DIVISOR = 32  # the coarsest stride of the feature pyramids; torchvision pads to it as well
MEAN = torch.tensor([0.485, 0.456, 0.406])  # ImageNet, RGB: what torchvision's detectors were trained with
STD = torch.tensor([0.229, 0.224, 0.225])

Send = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Canvas:
    """A network input: pixels (H, W, 3) float32, normalised, zero-padded right and below to /32."""

    pixels: Tensor
    content: tuple[int, int]  # height, width of the resized image inside the canvas
    image_size: tuple[int, int]  # height, width of the image as displayed
    ready: torch.Event | None = None  # after it the pixels may be read, where another stream writes them

    @property
    def key(self) -> tuple[int, int]:
        """Height and width of the canvas: only canvases of one key share a batch."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes that the canvas holds while it waits."""
        return self.pixels.numel() * self.pixels.element_size()

    @property
    def padding(self) -> int:
        """Canvas pixels that are not image."""
        return self.key[0] * self.key[1] - self.content[0] * self.content[1]

    def to_image(self, boxes: Tensor) -> Tensor:
        """Boxes (N, 4) xyxy from canvas pixels to image pixels."""
        (height, width), (new_height, new_width) = self.image_size, self.content
        ratio = torch.tensor([width / new_width, height / new_height], device=boxes.device)
        return boxes * ratio.repeat(2)


def resized(height: int, width: int, min_size: int, max_size: int) -> tuple[int, int]:
    """Height and width after resize: short side `min_size` unless the long one would pass `max_size`."""
    scale = min(min_size / min(height, width), max_size / max(height, width))
    return max(1, math.floor(height * scale)), max(1, math.floor(width * scale))


def _stay(tensor: Tensor) -> Tensor:
    return tensor


def prepare(image: Image, min_size: int, max_size: int, send: Send = _stay) -> Canvas:
    """Normalise, resize and pad as torchvision's `GeneralizedRCNNTransform` does for one image.

    `send` takes the rows that are needed to the device on which all of this then happens.
    """
    height, width = resized(image.height, image.width, min_size, max_size)
    content = _resize(image.pixels, height, width, send)
    mean, std = _normalisation(content.device)
    pixels = torch.zeros(_padded(height), _padded(width), 3, device=content.device)
    torch.sub(content, mean, out=content)
    torch.div(content, std, out=pixels[:height, :width])
    return Canvas(pixels, (height, width), (image.height, image.width))


@lru_cache
def _normalisation(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of pixels in 0..255, on the device."""
    return (MEAN * 255).to(device), (STD * 255).to(device)


def _padded(side: int) -> int:
    return math.ceil(side / DIVISOR) * DIVISOR


def _resize(pixels: Pixels, height: int, width: int, send: Send) -> Tensor:
    """Bilinear resize of uint8 (H, W, 3) without antialiasing: float32 (height, width, 3) in 0..255.

    Rows first and by hand, from the two source rows that each output row touches: a 50-megapixel image
    is never held as floats, nor sent as a whole. Along the rows torch's own kernel does the rest.
    """
    low, high, weight = _taps(pixels.shape[0], height)
    upper, lower = (send(torch.from_numpy(pixels[rows.numpy()])).float() for rows in (low, high))
    blended = upper.lerp_(lower, send(weight)[:, None, None])
    rows = blended.permute(2, 0, 1)[None]  # NCHW, channels last in memory
    return F.interpolate(rows, (height, width), mode="bilinear", align_corners=False)[0].permute(1, 2, 0)


def _taps(size: int, new_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Source rows above and below each output row's centre, and the weight of the one below.

    torch's kernel takes the ratio in float32 and rounds once more at the end, so this does too: at row
    1000 the exact ratio would already put the weights 1e-4 apart.
    """
    ratio = torch.tensor(size / new_size, dtype=torch.float32).double()
    centres = ((torch.arange(new_size).double() + 0.5) * ratio - 0.5).clamp_(min=0).float()
    low = centres.long().clamp_(max=size - 1)
    return low, (low + 1).clamp_(max=size - 1), centres - low

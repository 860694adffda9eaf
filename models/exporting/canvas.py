"""The first part of the graph: images to canvases, as `models.pipeline.canvas.prepare` makes them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from models.exporting.canvas_size import resized_size
from models.exporting.graph import (
    DOUBLE,
    FLOAT,
    INT32,
    INT64,
    Op,
    Value,
    cast,
    constant,
    floats,
    ints,
    size_of,
)
from models.pipeline.canvas import normalisation
from models.pipeline.resize import COEFFICIENT
from models.zoo.cards import Card
from models.zoo.sections import Preprocessing

PILLOW_ONE = 1 << 22  # Pillow's weights are multiples of its inverse


@dataclass(frozen=True, eq=False)
class CanvasValues:
    """Canvases (N, H, W, 3) of a batch of equal images, with heights and widths (2,) of all of them."""

    pixels: Value
    size: Value  # of the canvas
    content: Value  # of the resized image inside the canvas
    image_size: Value


def add_canvas(op: Op, images: Value, card: Card) -> CanvasValues:
    """Resize, normalise and pad images (N, H, W, 3) uint8."""
    how = card.preprocessing
    image_size = op.Shape(images, start=1, end=3)
    content = resized_size(op, image_size, how.resize, card.canvas_limits())
    pixels = RESIZES[how.resize](op, images, content)
    offset, factor = (constant(op, part.numpy()) for part in normalisation(torch.device("cpu"), how))
    pixels = op.Add(op.Mul(pixels, factor), offset)
    size, padding = _padding(op, content, how)
    pads = op.Concat(ints(0, 0, 0, 0, 0), padding, ints(0), axis=0)
    return CanvasValues(op.Pad(pixels, pads, 0.0), size, content, image_size)


def _padding(op: Op, content: Value, how: Preprocessing) -> tuple[Value, Value]:
    """The canvas's size (2,), and the rows below and the columns right of the content (2,)."""
    step = ints(how.pad_to)
    size = op.Mul(op.Div(op.Add(content, ints(how.pad_to - 1)), step), step)
    return size, op.Sub(size, content)


def _resize_torch(op: Op, images: Value, content: Value) -> Value:
    """Bilinear without antialiasing: float32 (N, h, w, 3) in 0..255."""
    for axis in (1, 2):
        before, after, weight = _torch_taps(op, size_of(op, images, axis), _side(op, content, axis))
        low, high = (cast(op, op.Gather(images, index, axis=axis), FLOAT) for index in (before, after))
        images = op.Add(low, op.Mul(op.Sub(high, low), _along(op, weight, axis)))
    return images


def _torch_taps(op: Op, size: Value, new_size: Value) -> tuple[Value, Value, Value]:
    """As `models.pipeline.canvas._taps`: pixels before and after each new one, the weight of the latter."""
    ratio = cast(op, op.Div(cast(op, size, FLOAT), cast(op, new_size, FLOAT)), DOUBLE)
    centre = op.Sub(op.Mul(_middles(op, new_size), ratio), 0.5)
    centre = cast(op, op.Max(centre, 0.0), FLOAT)
    last = op.Sub(size, ints(1))
    before = op.Min(cast(op, centre, INT64), last)
    after = op.Min(op.Add(before, ints(1)), last)
    return before, after, op.Sub(centre, cast(op, before, FLOAT))


def _resize_opencv(op: Op, images: Value, content: Value) -> Value:
    """As `models.pipeline.resize.resize_opencv`, in whole numbers: within rows, then between them.

    Halving needs no way of its own, as the weights of a half give the same sum.
    """
    across = _opencv_taps(op, size_of(op, images, 2), _side(op, content, 2), edges=False)
    down = _opencv_taps(op, size_of(op, images, 1), _side(op, content, 1), edges=True)
    total = None
    for row, row_weight in down:
        rows = op.Gather(images, row, axis=1)
        line = None
        for column, weight in across:
            part = cast(op, op.Gather(rows, column, axis=2), INT32)
            part = op.Mul(part, _along(op, weight, 2))
            line = part if line is None else op.Add(line, part)
        line = op.Div(op.Mul(op.Div(line, 16), _along(op, row_weight, 1)), 1 << 16)
        total = line if total is None else op.Add(total, line)
    rounded = op.Div(op.Add(total, 2), 4)
    return cast(op, op.Min(op.Max(rounded, 0), 255), FLOAT)


def _opencv_taps(op: Op, size: Value, new_size: Value, edges: bool) -> list[tuple[Value, Value]]:
    """Source pixels and their weights in fixed point, before and after each new one.

    With `edges`, a pixel beyond the edge keeps its weight, as between rows.
    """
    ratio = op.Div(cast(op, size, DOUBLE), cast(op, new_size, DOUBLE))
    centre = cast(op, op.Sub(op.Mul(_middles(op, new_size), ratio), 0.5), FLOAT)
    floor = op.Floor(centre)
    last, low = op.Sub(size, ints(1)), cast(op, floor, INT64)
    before = op.Max(op.Min(low, last), ints(0))
    after = op.Max(op.Min(op.Add(low, ints(1)), last), ints(0))
    weight = op.Sub(centre, floor)
    if not edges:
        weight = op.Where(op.Equal(before, after), floats(0.0), weight)
    shares = op.Sub(floats(1.0), weight), weight
    fixed = [cast(op, op.Round(op.Mul(share, floats(COEFFICIENT))), INT32) for share in shares]
    return list(zip((before, after), fixed, strict=True))


def _resize_pillow(op: Op, images: Value, content: Value) -> Value:
    """Pillow's bilinear resize, which averages when it shrinks, in its fixed point: in rows, then columns.

    ONNX's own antialiased Resize differs from it by up to 15 levels in ONNX Runtime.
    """
    images = cast(op, images, INT32)
    for axis in (2, 1):
        index, weights = _pillow_taps(op, size_of(op, images, axis), _side(op, content, axis))
        parts = op.Mul(op.Gather(images, index, axis=axis), _along(op, weights, axis))
        total = op.Add(op.ReduceSum(parts, ints(axis + 1), keepdims=0), PILLOW_ONE // 2)
        # OpenVINO divides large whole numbers as floats, so the fraction is dropped by name.
        quotient = op.Floor(op.Mul(cast(op, total, DOUBLE), 1.0 / PILLOW_ONE))
        images = cast(op, op.Min(quotient, 255.0), INT32)
    return cast(op, images, FLOAT)


def _pillow_taps(op: Op, size: Value, new_size: Value) -> tuple[Value, Value]:
    """For each new pixel, source pixels (n, taps) and their weights in fixed point; 0 for those too many.

    Places are whole numbers, in units of half a new pixel's share of the source: a runtime with float32
    alone then finds nearly the same weights.
    """
    double, reach = op.Mul(new_size, 2), op.Mul(op.Max(size, new_size), 2)
    centre = op.Mul(op.Add(op.Mul(_numbers(op, new_size), 2), 1), size)
    start, end = op.Sub(op.Add(centre, new_size), reach), op.Add(op.Add(centre, new_size), reach)
    first, end = op.Max(op.Div(start, double), 0), op.Min(op.Div(end, double), size)
    taps = op.Add(op.Mul(op.Div(op.Sub(op.Add(reach, double), 1), double), 2), 1)
    index = op.Add(op.Unsqueeze(first, ints(1)), _numbers(op, taps))
    middle = op.Mul(op.Add(op.Mul(index, 2), 1), new_size)
    distance = op.Abs(op.Sub(middle, op.Unsqueeze(centre, ints(1))))
    shares = op.Sub(1.0, op.Div(cast(op, distance, DOUBLE), cast(op, reach, DOUBLE)))
    shares = op.Where(op.Less(index, op.Unsqueeze(end, ints(1))), op.Max(shares, 0.0), 0.0)
    shares = op.Div(shares, op.ReduceSum(shares, ints(1), keepdims=1))
    fixed = op.Floor(op.Add(op.Mul(shares, float(PILLOW_ONE)), 0.5))
    return op.Min(index, op.Sub(size, ints(1))), cast(op, fixed, INT32)


RESIZES: dict[str, Callable[[Op, Value, Value], Value]] = {
    "torch": _resize_torch,
    "opencv": _resize_opencv,
    "pillow": _resize_pillow,
}


def _side(op: Op, content: Value, axis: int) -> Value:
    """The new length (1,) of the images' axis 1 or 2."""
    return op.Gather(content, ints(axis - 1))


def _numbers(op: Op, count: Value) -> Value:
    """0, 1, … (n,) for a count (1,)."""
    return op.Range(0, op.Squeeze(count, ints(0)), 1)


def _middles(op: Op, count: Value) -> Value:
    """0.5, 1.5, … as float64 (n,)."""
    return op.Add(cast(op, _numbers(op, count), DOUBLE), 0.5)


def _along(op: Op, weights: Value, axis: int) -> Value:
    """Weights (n, …) so that they multiply along axis 1 or 2 of (N, h, w, 3)."""
    return op.Unsqueeze(weights, ints(-1, -2) if axis == 1 else ints(-1))

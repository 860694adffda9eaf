"""The size of the resized image, computed in whole numbers.

`models.pipeline.canvas.resized_by` multiplies by a rounded ratio of float64, and takes the floor: where the
exact product is whole, the rounded one may be just below it. Runtimes without float64 must find the same, so
the graph divides whole numbers and looks up how much too small the ratio is.
"""

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from models.exporting.graph import DOUBLE, FLOAT, INT64, Op, Value, cast, constant, floats, ints

LONGEST_SIDE = 16384  # px; the ratio of a longer image is taken as exact
POWERS = np.array([[1 << k for k in range(31)]])
NEAR_ONE = 1.000001  # products of the table differ from 1 by more, unless they are ties, which round up


def resized_size(op: Op, size: Value, library: str, limits: tuple[int, int]) -> Value:
    """Height and width (2,) after the resize of an image of `size` (2,), as `resized_by` finds them."""
    if library == "pillow":
        return _size_of_detectron2(op, size, limits)
    min_size, max_size = limits
    short = op.ReduceMin(size, keepdims=1)
    long = op.ReduceMax(size, keepdims=1)
    by_short = op.LessOrEqual(op.Mul(long, ints(min_size)), op.Mul(short, ints(max_size)))
    reference = op.Where(by_short, short, long)
    target = op.Where(by_short, ints(min_size), ints(max_size))
    half = 0 if library == "torch" else 1  # OpenCV's side rounds to the nearest
    doubled = op.Add(op.Mul(op.Mul(size, target), ints(2)), op.Mul(reference, ints(half)))
    divisor = op.Mul(reference, ints(2))
    quotient = op.Div(doubled, divisor)
    whole = op.Equal(op.Mul(quotient, divisor), doubled)
    row = op.Min(reference, ints(LONGEST_SIDE))
    losses = (op.Gather(constant(op, _losses(limit)), row) for limit in limits)
    loss = op.Where(by_short, *losses)
    below = op.And(whole, _rounds_down(op, op.Sub(op.Mul(quotient, ints(2)), ints(half)), loss))
    return op.Max(op.Sub(quotient, cast(op, below, INT64)), ints(1))


def _size_of_detectron2(op: Op, size: Value, limits: tuple[int, int]) -> Value:
    """With its steps in float64, of which two round; a runtime without it may miss ties by a pixel."""
    short = op.ReduceMin(size, keepdims=1)
    min_size, max_size = (float(limit) for limit in limits)
    scaled = op.Mul(cast(op, size, DOUBLE), op.Div(min_size, cast(op, short, DOUBLE)))
    sides = op.Where(op.Equal(size, short), min_size, scaled)
    longest = op.ReduceMax(sides, keepdims=1)
    sides = op.Mul(sides, op.Where(op.Greater(longest, max_size), op.Div(max_size, longest), 1.0))
    return op.Max(cast(op, op.Add(sides, 0.5), INT64), ints(1))  # the cast drops the fraction


def _rounds_down(op: Op, product: Value, loss: Value) -> Value:
    """Whether a whole product (2,) rounds to less than itself when its ratio is too small by `loss` (1,)."""
    powers = constant(op, POWERS)
    reached = op.LessOrEqual(powers, op.Unsqueeze(product, ints(1)))
    power = op.ReduceMax(op.Where(reached, powers, 1), ints(1), keepdims=0)
    mantissa = op.Div(cast(op, product, FLOAT), cast(op, power, FLOAT))
    # Floats below a power of two are twice as dense.
    spacing = op.Where(op.Equal(product, power), floats(0.5), floats(1.0))
    return op.Greater(op.Mul(loss, mantissa), op.Mul(spacing, floats(NEAR_ONE)))


def _losses(target: int) -> npt.NDArray[np.float32]:
    """How much too small the float64 `target / side` is, for each side, relative, in units of 2**-53."""
    sides = range(1, LONGEST_SIDE + 1)
    losses = [float((1 - Fraction(target / side) * Fraction(side, target)) * 2**53) for side in sides]
    return np.array([0.0, *losses], np.float32)

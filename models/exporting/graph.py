"""What the parts of the graph share: types, shapes, and gathers along a batch."""

from typing import Any

import numpy as np
import numpy.typing as npt
from onnxscript import ir

Op = Any  # onnxscript's builder: `op.Add(a, b)` appends a node and returns its output
Value = Any  # such an output, an `ir.Value`: the builder's methods have no types

OPSET = 18  # the oldest with Split by the number of outputs; RoiAlign needs 16
FLOAT, DOUBLE = ir.DataType.FLOAT, ir.DataType.DOUBLE
INT64, INT32 = ir.DataType.INT64, ir.DataType.INT32

EXCLUDED, LOWEST = -3e38, -2e38  # rank of what takes no part; every other rank is above LOWEST


def ints(*values: int) -> list[int]:
    """A constant (n,) of whole numbers, such as axes and shapes."""
    return [int(value) for value in values]


def floats(*values: float) -> list[float]:
    """A constant (n,) of float32, or of the type of the operator's other inputs."""
    return [float(value) for value in values]


def constant(op: Op, values: npt.NDArray[Any]) -> Value:
    """A constant of any shape."""
    return op.initializer(ir.tensor(values), name=f"constant_{len(op.builder.graph.initializers)}")


def cast(op: Op, value: Value, dtype: ir.DataType) -> Value:
    """The value in another type."""
    return op.Cast(value, to=int(dtype))


def size_of(op: Op, value: Value, axis: int) -> Value:
    """The length (1,) of an axis."""
    return op.Shape(value, start=axis, end=axis + 1)


def shaped(op: Op, value: Value, *sizes: Value | int) -> Value:
    """The value with another shape; a size is a number or a value (1,)."""
    parts = [ints(size) if isinstance(size, int) else size for size in sizes]
    return op.Reshape(value, op.Concat(*parts, axis=0))


def rows_of(op: Op, values: Value, index: Value) -> Value:
    """Rows (N, n, …) of values (N, A, …) by index (N, n), for each image of the batch."""
    return op.GatherND(values, op.Unsqueeze(index, ints(-1)), batch_dims=1)


def halves(op: Op, values: Value) -> tuple[Value, Value]:
    """The first and the second half of the last axis."""
    first, second = op.Split(values, axis=-1, num_outputs=2, _outputs=2)
    return first, second


def best(op: Op, ranks: Value, most: Value | int) -> tuple[Value, Value]:
    """Values and indices (N, n) of the highest of each row (N, A), n at most `most`; equal ones in order."""
    limit = ints(most) if isinstance(most, int) else most
    count = op.Min(size_of(op, ranks, 1), limit)
    values, index = op.TopK(ranks, count, axis=1, _outputs=2)
    return values, index


def marked(op: Op, positions: Value, like: Value) -> Value:
    """True (G, n) at positions (S, 2), with the shape of `like`."""
    empty = op.ConstantOfShape(op.Shape(like), value=ir.tensor(np.zeros(1, np.float32)))
    ones = op.ConstantOfShape(op.Shape(positions, start=0, end=1), value=ir.tensor(np.ones(1, np.float32)))
    return op.Greater(op.ScatterND(empty, positions, ones), floats(0.5))


def suppressed(op: Op, boxes: Value, ranks: Value, threshold: float, most: int) -> Value:
    """True (G, n) for the boxes (G, n, 4) that NMS by ranks (G, n) keeps in each group, at most `most`."""
    kept = op.NonMaxSuppression(
        boxes, op.Unsqueeze(ranks, ints(1)), ints(most), floats(threshold), floats(LOWEST)
    )
    return marked(op, op.Gather(kept, ints(0, 2), axis=1), ranks)

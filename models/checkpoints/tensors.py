"""Tensors and arrays of a pickle: described while it is read, made only when they are used.

A description comes from an untrusted file, so every number in it is checked against the bytes that exist.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.checkpoints.errors import CheckpointError
from models.checkpoints.placeholders import Sealed

MAX_DIMENSIONS = 16
STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
ARRAY_KINDS = "fiub"  # floats, integers and bool; an object array would hold a pickle

ReadStorage = Callable[[str], Tensor]  # a storage's key to its bytes, uint8


@dataclass(frozen=True, eq=False)
class StorageRef:
    """A storage of the file; `count` elements."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True, eq=False)
class TensorRef:
    """A view of a storage, in elements."""

    storage: object
    offset: object
    size: object
    stride: object


class DtypeRef(metaclass=Sealed):
    """A numpy dtype: its name, as in "f4", and byte order."""

    __slots__ = ("name", "order")

    def __init__(self, name: object = "", *_flags: object) -> None:
        self.name, self.order = name, "<"

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1:
            self.order = str(state[1])

    def resolve(self) -> np.dtype[Any]:
        """The dtype of plain numbers; raises CheckpointError."""
        try:
            dtype = np.dtype(str(self.name))
        except TypeError as error:
            raise CheckpointError(f"it has an array of type {str(self.name)[:40]!r}") from error
        if dtype.kind not in ARRAY_KINDS or dtype.fields is not None:
            raise CheckpointError(f"it has an array of {dtype} and not of numbers")
        return dtype.newbyteorder(">") if self.order == ">" else dtype


class ArrayRef(metaclass=Sealed):
    """A numpy array: shape, dtype, order and bytes."""

    __slots__ = ("state",)

    def __init__(self, *state: object) -> None:
        self.state: object = state

    def __setstate__(self, state: object) -> None:
        self.state = state[1:] if isinstance(state, tuple) else ()


def make_tensor(value: object, read: ReadStorage) -> Tensor | None:
    """The tensor of a tensor or array of the file, None for anything else; raises CheckpointError."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, TensorRef):
        return _view(value, read)
    return _array(value) if isinstance(value, ArrayRef) else None


def _view(ref: TensorRef, read: ReadStorage) -> Tensor:
    storage = ref.storage
    if not isinstance(storage, StorageRef):
        raise CheckpointError(
            "a tensor in it has no data, as pickle.dump writes it; write it with torch.save"
        )
    size, stride = _counts(ref.size), _counts(ref.stride)
    [offset] = _counts((ref.offset,))
    elements = read(storage.key)
    available = len(elements) // storage.dtype.itemsize
    count = math.prod(size)
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=False) if side)
    if len(size) != len(stride) or count > available or (count and last >= available):
        raise CheckpointError("a tensor in it is larger than its data: the file is damaged")
    typed = elements[: available * storage.dtype.itemsize].view(storage.dtype)
    return typed.as_strided(size, stride, offset)


def _array(ref: ArrayRef) -> Tensor:
    state = ref.state if isinstance(ref.state, tuple) else ()
    if len(state) != 4 or not isinstance(state[1], DtypeRef):
        raise CheckpointError("an array in it cannot be read")
    shape, dtype, raw = _counts(state[0]), state[1].resolve(), state[3]
    content = raw.encode("latin1") if isinstance(raw, str) else raw
    if not isinstance(content, bytes | bytearray) or len(content) != math.prod(shape) * dtype.itemsize:
        raise CheckpointError("an array in it is not of its size: the file is damaged")
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if state[2] in (True, "F") else "C")
    return torch.from_numpy(np.array(array, dtype.newbyteorder("="), order="C"))


def _counts(values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or len(values) > MAX_DIMENSIONS:
        raise CheckpointError("a tensor in it has no usable shape")
    if any(type(value) is not int or value < 0 for value in values):
        raise CheckpointError("a tensor in it has no usable shape")
    return tuple(values)

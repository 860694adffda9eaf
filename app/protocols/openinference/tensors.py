"""Tensors of the Open Inference Protocol, as raw bytes or as listed values."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from app.errors import InvalidParameter
from app.protocols.openinference.listed_numbers import whole_numbers
from app.schemas.limits import MAX_IMAGES, MAX_QUOTED, MAX_TENSOR_RANK
from app.serving.request import Source
from models.images.decoder import Pixels

IMAGE, IMAGES = "image", "images"
USAGE = f"{IMAGE} BYTES [N] (image files) or {IMAGES} UINT8 [N, height, width, 3] (RGB pixels)"

DATATYPES: dict[np.dtype[Any], str] = {
    np.dtype(np.float32): "FP32",
    np.dtype(np.int64): "INT64",
    np.dtype(np.int32): "INT32",
}

Array = npt.NDArray[Any]

_LENGTH = struct.Struct("<I")  # before each element of a BYTES tensor


@dataclass(frozen=True, eq=False)
class Tensor:
    """An input: `content` is raw bytes, the elements of a BYTES tensor, or numbers, flat or nested.

    A list of many numbers costs 40 bytes each: give an array.
    """

    name: str
    datatype: str
    shape: Sequence[int]
    content: bytes | Sequence[Any] | Array


def check_inputs(names: Sequence[str]) -> None:
    """Raise InvalidParameter unless a request has exactly one input, before the content of any is read."""
    if len(names) != 1 or names[0] not in (IMAGE, IMAGES):
        shown = ", ".join(repr(name[:MAX_QUOTED]) for name in names[:5]) or "none"
        raise InvalidParameter(f"inputs: {shown}; send exactly one: {USAGE}")


def read_images(tensor: Tensor) -> list[Source]:
    """The images of a request's one input; raises InvalidParameter."""
    check_count("shape", len(tensor.shape), MAX_TENSOR_RANK)
    count = math.prod(tensor.shape if tensor.name == IMAGE else tensor.shape[:1])
    if not (tensor.shape and 1 <= count <= MAX_IMAGES and min(tensor.shape) >= 0):
        raise _invalid(tensor, f"send 1 to {MAX_IMAGES} images")
    return list(_files(tensor, count) if tensor.name == IMAGE else _pixels(tensor))


def check_count(name: str, count: int, most: int) -> None:
    """Raise InvalidParameter for a list of more than `most` items, before anything is built of them."""
    if count > most:
        raise InvalidParameter(f"{name}: it has {count} items, {most} are allowed; send fewer")


def raw(array: Array) -> bytes:
    """A tensor's values in row-major order, little-endian."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _files(tensor: Tensor, count: int) -> list[bytes]:
    if tensor.datatype != "BYTES":
        raise _invalid(tensor, "its datatype is BYTES")
    content = tensor.content
    files = _split(tensor, content) if isinstance(content, bytes) else list(content)
    if len(files) != count:
        raise _invalid(tensor, f"its content has {len(files)} elements")
    return files


def _split(tensor: Tensor, content: bytes) -> list[bytes]:
    """The elements of a raw BYTES tensor, each after its length in four bytes."""
    files: list[bytes] = []
    offset = 0
    while offset < len(content) and len(files) <= MAX_IMAGES:
        start = offset + _LENGTH.size
        end = start + (_LENGTH.unpack_from(content, offset)[0] if start <= len(content) else 0)
        if max(start, end) > len(content):
            raise _invalid(
                tensor, "its content ends inside an element; put its length before each, in 4 bytes"
            )
        files.append(content[start:end])
        offset = end
    return files


def _pixels(tensor: Tensor) -> list[Pixels]:
    shape = tuple(tensor.shape)
    if tensor.datatype != "UINT8" or len(shape) != 4 or shape[3] != 3:
        raise _invalid(tensor, "it is UINT8 [N, height, width, 3]")
    content = tensor.content
    values = np.frombuffer(content, np.uint8) if isinstance(content, bytes) else _bytes_of(tensor, content)
    if values.size != math.prod(shape):
        raise _invalid(tensor, f"its content has {values.size} values, not {math.prod(shape)}")
    return list(values.reshape(shape))


def _bytes_of(tensor: Tensor, values: Sequence[Any] | Array) -> Pixels:
    try:
        return whole_numbers(values)
    except ValueError as error:  # among them lists of different lengths, or nested too deeply
        reason = "its data must be whole numbers from 0 to 255, flat or nested as its shape"
        raise _invalid(tensor, reason) from error


def _invalid(tensor: Tensor, reason: str) -> InvalidParameter:
    described = f"{tensor.name} {tensor.datatype[:20]} {list(tensor.shape)[:8]}"
    return InvalidParameter(f"inputs: {described}: {reason}; send {USAGE}")

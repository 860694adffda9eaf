"""Reads the samples of a TIFF's page that Pillow has no mode for: planes, floats, signed or wide numbers.

The page is described to Pillow once more, as one of grey bytes whose rows are those of the samples. libtiff
then undoes the compression, and what is left, byte order, predictor and planes, is done on arrays here.
"""

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from models.images.formats.errors import HeaderError

Numbers = tuple[int, ...]
Samples = npt.NDArray[Any]  # (rows, columns, samples) of the type that the page states

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _PER_PIXEL = (
    256,
    257,
    258,
    259,
    262,
    266,
    277,
)
_ROWS_PER_STRIP, _PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_LENGTH, _FORMAT = 278, 284, 317, 322, 323, 339
_STRIPS, _TILES = (273, 279), (324, 325)  # offsets and byte counts
_GREY, _PLANES, _LONG = 1, 2, 4
_DIFFERENCES, _FLOAT_DIFFERENCES = 2, 3  # predictors
_TYPES = {1: "u", 2: "i", 3: "f", 4: "u"}  # of SampleFormat; 4 is undefined
_SIZES = {"u": (8, 16, 32), "i": (8, 16, 32), "f": (16, 32, 64)}
PACKED = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})  # compressions of bytes, whatever they mean
MAX_SAMPLES = 16  # a pixel
MAX_PART_BYTES = 2**27  # of a strip or tile, which libtiff holds in memory: an encoder writes a few kilobytes


class UnknownSamples(HeaderError):
    """Samples that are not read."""


@dataclass(frozen=True)
class Layout:
    """How a page stores its samples. A part is a strip or a tile."""

    size: tuple[int, int]  # width, height in pixels
    samples: int
    type: np.dtype[Any]
    planes: int
    part: tuple[int, int]
    predictor: int
    is_tiled: bool

    @property
    def across(self) -> int:
        """Parts beside each other."""
        return -(-self.size[0] // self.part[0])

    @property
    def parts(self) -> int:
        """Parts of a plane."""
        return self.across * -(-self.size[1] // self.part[1])

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel in each plane."""
        return self.type.itemsize * self.samples // self.planes


def layout_of(tags: ImageFileDirectory_v2) -> Layout:
    """The layout of a page. Raises UnknownSamples where it is not read."""
    width, height, samples = (int(tags.get(tag, 1)) for tag in (_WIDTH, _HEIGHT, _PER_PIXEL))
    # A few writers list more values than there are samples; readers take the first ones.
    bits, formats = (set(tags.get(tag, (1,))[:samples]) for tag in (_BITS, _FORMAT))
    letter, depth = _TYPES.get(min(formats), ""), min(bits)
    if len(bits) > 1 or len(formats) > 1 or depth not in _SIZES.get(letter, ()):
        names = {"u": "unsigned", "i": "signed", "f": "floating-point"}
        sizes = ", ".join(map(str, sorted(bits))) if len(bits) <= 4 else "many different"
        numbers = f"{names.get(letter, 'unknown')} numbers of {sizes} bits"
        raise UnknownSamples(f"samples that are not supported: {numbers}")
    if not 0 < samples <= MAX_SAMPLES or min(width, height) < 1:
        raise UnknownSamples(f"{samples} samples a pixel; 1 to {MAX_SAMPLES} are allowed")
    if tags.get(_COMPRESSION, 1) not in PACKED:
        raise UnknownSamples(f"samples of {depth} bits in compression {tags.get(_COMPRESSION)}")
    tiled = _TILES[0] in tags
    part = (
        (int(tags.get(_TILE_WIDTH, 0)), int(tags.get(_TILE_LENGTH, 0)))
        if tiled
        else (width, min(height, int(tags.get(_ROWS_PER_STRIP, height))))
    )
    if min(part) < 1:
        raise UnknownSamples(f"strips or tiles of {part[0]} x {part[1]} pixels")
    type = np.dtype(f"{'<' if tags.prefix == b'II' else '>'}{letter}{depth // 8}")
    planes = samples if tags.get(_PLANAR, 1) == _PLANES else 1
    layout = Layout((width, height), samples, type, planes, part, int(tags.get(_PREDICTOR, 1)), tiled)
    if part[0] * part[1] * layout.pixel_bytes > MAX_PART_BYTES:
        raise UnknownSamples(f"strips or tiles of more than {MAX_PART_BYTES} bytes")
    return layout


def read_samples(data: bytes, tags: ImageFileDirectory_v2, layout: Layout) -> Samples:
    """The samples of a page. Raises UnknownSamples, and what Pillow raises on damaged data."""
    places = [tuple(tags.get(tag, ())) for tag in (_TILES if layout.is_tiled else _STRIPS)]
    count = layout.parts
    if any(len(values) < count * layout.planes for values in places):
        raise UnknownSamples(f"fewer than {count * layout.planes} strips or tiles")
    planes = []
    for first in range(0, count * layout.planes, count):
        page = _as_bytes(tags, layout, *(values[first : first + count] for values in places))
        picture = TiffImageFile(BytesIO(_beginning_with(page, data, tags.prefix)))
        picture.load()
        planes.append(_numbers(np.asarray(picture), layout))
    return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)


def _as_bytes(
    tags: ImageFileDirectory_v2, layout: Layout, offsets: Numbers, counts: Numbers
) -> dict[int, Numbers]:
    """A plane described as a picture of grey bytes, as wide as its strips or tiles together."""
    wide = layout.part[0] * layout.pixel_bytes
    page: dict[int, Numbers] = {
        _WIDTH: (layout.across * wide,),
        _HEIGHT: (layout.size[1],),
        _BITS: (8,),
        _PER_PIXEL: (1,),
        **{tag: (int(tags.get(tag, 1)),) for tag in (_COMPRESSION, _FILL_ORDER)},
        _PHOTOMETRIC: (_GREY,),
    }
    if layout.is_tiled:
        return page | {
            _TILE_WIDTH: (wide,),
            _TILE_LENGTH: (layout.part[1],),
            **_placed(_TILES, offsets, counts),
        }
    return page | {_ROWS_PER_STRIP: (layout.part[1],), **_placed(_STRIPS, offsets, counts)}


def _placed(tags: tuple[int, int], offsets: Numbers, counts: Numbers) -> dict[int, Numbers]:
    return {tags[0]: offsets, tags[1]: counts}


def _beginning_with(page: dict[int, Numbers], data: bytes, prefix: bytes) -> bytes:
    """The file with another first page, whose directory follows the data; Pillow's would move the offsets."""
    order = "<" if prefix == b"II" else ">"
    entries, values, behind = b"", b"", len(data) + 2 + 12 * len(page) + 4
    for tag, numbers in sorted(page.items()):
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(packed) > 4:
            packed, values = struct.pack(order + "I", behind + len(values)), values + packed
        entries += struct.pack(order + "HHI", tag, _LONG, len(numbers)) + packed
    head = struct.pack(f"{order}2sHI", prefix, 42, len(data))
    return b"".join((head, data[8:], struct.pack(order + "H", len(page)), entries, bytes(4), values))


def _numbers(rows: npt.NDArray[np.uint8], layout: Layout) -> Samples:
    """The samples (rows, columns, samples of the plane) of its bytes, with the predictor undone."""
    height, across, wide = len(rows), layout.across, layout.part[0]
    samples, size = layout.samples // layout.planes, layout.type.itemsize
    if layout.predictor == _FLOAT_DIFFERENCES:  # of the bytes, which lie in planes, the highest first
        summed = np.cumsum(rows.reshape(height, across, wide * size, samples), axis=2, dtype=np.uint8)
        mixed = summed.reshape(height, across, size, wide * samples).transpose(0, 1, 3, 2)
        numbers = np.ascontiguousarray(mixed).view(layout.type.newbyteorder(">"))
    else:
        numbers = rows.reshape(height, across, -1).view(layout.type)
    numbers = numbers.reshape(height, across, wide, samples)
    if layout.predictor == _DIFFERENCES:
        whole = np.dtype(f"u{size}")
        native = numbers.view(whole.newbyteorder(layout.type.byteorder))
        numbers = np.cumsum(native, axis=2, dtype=whole).view(layout.type.newbyteorder("="))
    return numbers.reshape(height, across * wide, samples)[:, : layout.size[0]]

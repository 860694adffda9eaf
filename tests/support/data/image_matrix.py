"""The decoder matrix: a small file of each format, kind of samples, depth, opacity and orientation."""

import io
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pyvips
import tifffile
from PIL import Image as pillow

from tests.support.data.image_files import chunk, encoded, exif, png, without_segment

WIDTH, HEIGHT, EIGHT = 24, 16, "8 bits"


class Cell(NamedTuple):
    """A file: its format, its colours, their numbers, and how they are stored.

    `twin`: the same samples stored pixel by pixel, where the other decoders do not read planes rightly.
    """

    format: str
    colours: str
    numbers: str
    stored: str
    make: Callable[[], bytes]
    twin: Callable[[], bytes] | None = None


def scene(channels: int = 3) -> np.ndarray:
    """Soft colours, uint16 (rows, columns, channels): every decoder smooths them alike."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = [
        np.sin(x / 7.0),
        np.cos(y / 5.0),
        np.sin((x + y) / 9.0),
        np.cos((x - y) / 8.0),
        x / 9.0 - 1,
        y / 7.0 - 1,
    ]
    return np.stack([32_768 + 24_000 * np.clip(wave, -1, 1) for wave in waves[:channels]], -1).astype(
        np.uint16
    )


def picture(mode: str = "RGB") -> pillow.Image:
    rgba = pillow.fromarray((scene(4) >> 8).astype(np.uint8))
    return rgba if mode == "RGBA" else rgba.convert("RGB").convert(mode)


def _pillow(format: str, mode: str, **options: object) -> Callable[[], bytes]:
    def make() -> bytes:
        made = picture("RGBA").convert("LA") if mode == "LA" else picture(mode)
        if mode == "P":
            made = picture().quantize(16)
        return encoded(made, format, **options)

    return make


def _turned(format: str, mode: str, **options: object) -> Iterator[Cell]:
    for orientation in range(1, 9):
        tags = exif(orientation)
        yield Cell(format, mode, EIGHT, f"EXIF {orientation}", _pillow(format, mode, exif=tags, **options))


def jpegs() -> Iterator[Cell]:
    for mode in ("L", "RGB", "CMYK"):
        yield Cell("JPEG", mode, EIGHT, "baseline", _pillow("JPEG", mode, quality=95))
        yield Cell("JPEG", mode, EIGHT, "progressive", _pillow("JPEG", mode, quality=95, progressive=True))
        yield Cell("JPEG", mode, EIGHT, "4:4:4", _pillow("JPEG", mode, quality=95, subsampling=0))
    yield Cell("JPEG", "RGB", EIGHT, "stored as RGB", _pillow("JPEG", "RGB", quality=95, keep_rgb=True))
    plain = _pillow("JPEG", "CMYK", quality=95)
    rgb = _pillow("JPEG", "RGB", quality=95, keep_rgb=True)
    yield Cell("JPEG", "CMYK", EIGHT, "without Adobe's marker", lambda: without_segment(plain(), 0xEE))
    for transform in range(3):
        yield Cell(
            "JPEG",
            "CMYK",
            EIGHT,
            f"Adobe's transform {transform}",
            lambda flag=transform: _adobe(plain(), flag),
        )
        yield Cell(
            "JPEG", "RGB", EIGHT, f"Adobe's transform {transform}", lambda flag=transform: _adobe(rgb(), flag)
        )
    yield from _turned("JPEG", "RGB", quality=95)
    yield from _turned("JPEG", "L", quality=95)


def _adobe(data: bytes, transform: int) -> bytes:
    """The file with that flag in Adobe's marker."""
    at = data.index(b"Adobe") + 11
    return data[:at] + bytes((transform,)) + data[at + 1 :]


def pngs() -> Iterator[Cell]:
    for kind, depths in PNG_KINDS.items():
        for depth, interlaced, keyed in itertools.product(depths, (False, True), (False, True)):
            if keyed and kind in ("LA", "RGBA"):
                continue
            stored = " and ".join(["interlaced"] * interlaced + ["tRNS"] * keyed) or "plain"
            yield Cell(
                "PNG",
                kind,
                "1 bit" if depth == 1 else f"{depth} bits",
                stored,
                lambda a=(kind, depth, interlaced, keyed): _png(*a),
            )
    yield from _turned("PNG", "RGB")
    yield from _turned("PNG", "RGBA")


PNG_KINDS = {"L": (1, 2, 4, 8, 16), "RGB": (8, 16), "P": (1, 2, 4, 8), "LA": (8, 16), "RGBA": (8, 16)}
_COLOUR_TYPES = {"L": 0, "RGB": 2, "P": 3, "LA": 4, "RGBA": 6}
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def _png(kind: str, depth: int, interlaced: bool, keyed: bool) -> bytes:
    channels = {"L": 1, "P": 1, "RGB": 3, "LA": 2, "RGBA": 4}[kind]
    values = scene(channels) >> (16 - depth)
    passes = [values[y::dy, x::dx] for x, y, dx, dy in _PASSES] if interlaced else [values]
    rows = b"".join(b"\0" + _packed(row, depth) for each in passes for row in each)
    others = (
        [chunk(b"PLTE", bytes(range(7, 7 + 3 * 2**depth)) if depth < 8 else _PALETTE)] if kind == "P" else []
    )
    if keyed:
        key = bytes(range(10, 250))[: 2**depth] if kind == "P" else values[5, 7].astype(">u2").tobytes()
        others.append(chunk(b"tRNS", key))
    made = png(WIDTH, HEIGHT, depth, _COLOUR_TYPES[kind], rows, *others)
    if not interlaced:
        return made
    return made[:8] + chunk(b"IHDR", made[16:28] + b"\1") + made[33:]


_PALETTE = bytes(value * 37 % 256 for value in range(768))


def _packed(row: np.ndarray, depth: int) -> bytes:
    if depth == 16:
        return row.astype(">u2").tobytes()
    bits = np.unpackbits(row.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - depth :]
    return np.packbits(bits.reshape(-1)).tobytes()


def _bits(mode: str) -> str:
    return "1 bit" if mode == "1" else EIGHT


def others() -> Iterator[Cell]:
    for mode in ("RGB", "RGBA"):
        for lossless in (False, True):
            options = {"lossless": lossless, "quality": 95, "exact": True}
            yield Cell(
                "WEBP",
                mode,
                EIGHT,
                "lossless" if lossless else "lossy",
                _pillow("WEBP", mode, **options),
            )
        yield from _turned("WEBP", mode, lossless=True)
        yield Cell("AVIF", mode, EIGHT, "4:4:4", _pillow("AVIF", mode, quality=95, subsampling="4:4:4"))
        yield Cell("AVIF", mode, EIGHT, "4:2:0", _pillow("AVIF", mode, quality=95))
    yield Cell("AVIF", "L", EIGHT, "4:0:0", _pillow("AVIF", "L", quality=95, subsampling="4:0:0"))
    yield from _turned("AVIF", "RGB", quality=95, subsampling="4:4:4")
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield Cell("BMP", mode, _bits(mode), "usual", _pillow("BMP", mode))
    for mode in ("1", "L", "P"):
        yield Cell("GIF", mode, _bits(mode), "usual", _pillow("GIF", mode))
        yield Cell("GIF", mode, _bits(mode), "interlaced", _pillow("GIF", mode, interlace=True))
    yield Cell("GIF", "P", EIGHT, "transparent", _pillow("GIF", "P", transparency=3))


def tiffs() -> Iterator[Cell]:
    yield from _turned("TIFF", "RGB")
    yield from _turned("TIFF", "RGBA", compression="tiff_lzw")
    for mode in ("1", "P", "LA", "CMYK", "LAB", "YCbCr"):
        yield Cell("TIFF", mode, _bits(mode), "strips", _pillow("TIFF", mode))
    for layout, kind, type in itertools.product(TIFF_LAYOUTS, TIFF_KINDS, TIFF_TYPES):
        is_float = type[1] == "f"
        if "of differences" in layout and is_float:
            continue
        if type in ("<u1", "<u2", "<f4") or layout in FOR_EVERY_TYPE:
            made = partial(_tiff, layout, kind, type)
            twin = partial(_tiff, "strips", kind, type) if "planes" in layout else None
            yield Cell("TIFF", kind, TIFF_TYPES[type], layout, made, twin)


FOR_EVERY_TYPE = ("strips", "planes", "Deflate of differences")
TIFF_TYPES = {
    "<u1": "8 bits",
    "<u2": "16 bits",
    ">u2": "16 bits big-endian",
    "<u4": "32 bits",
    "<i1": "8 bits signed",
    "<i2": "16 bits signed",
    "<i4": "32 bits signed",
    "<f2": "16 bits float",
    "<f4": "32 bits float",
    ">f4": "32 bits float big-endian",
    "<f8": "64 bits float",
}
TIFF_LAYOUTS: dict[str, dict[str, object]] = {
    "strips": {"rowsperstrip": 5},
    "planes": {"planarconfig": "separate"},
    "tiles": {"tile": (16, 16)},
    "tiled planes with Deflate": {"tile": (16, 16), "planarconfig": "separate", "compression": "zlib"},
    "Deflate": {"compression": "zlib"},
    "Deflate of differences": {"compression": "zlib", "predictor": 2},
    "tiles with Deflate of differences": {"compression": "zlib", "predictor": 2, "tile": (16, 16)},
}
TIFF_KINDS: dict[
    str, tuple[int, str, tuple[int, ...]]
] = {  # samples, photometric interpretation, ExtraSamples
    "L": (1, "minisblack", ()),
    "L, white is 0": (1, "miniswhite", ()),
    "LA": (2, "minisblack", (2,)),
    "L and another": (2, "minisblack", (0,)),
    "RGB": (3, "rgb", ()),
    "RGBA": (4, "rgb", (2,)),
    "RGBA premultiplied": (4, "rgb", (1,)),
    "RGB and another": (4, "rgb", (0,)),
    "four bands": (4, "minisblack", (0, 0, 0)),
    "CMYK": (4, "separated", ()),
    "Lab": (3, "cielab", ()),
}


def _tiff(layout: str, kind: str, type: str) -> bytes:
    samples, photometric, extras = TIFF_KINDS[kind]
    values, dtype = scene(samples), np.dtype(type)
    if kind == "RGBA premultiplied":
        values[:, :, :3] = values[:, :, :3] * (values[:, :, 3:] / 65_535.0)
    if dtype.kind == "f":
        values = values / 65_535.0
    elif dtype.itemsize == 4:
        values = values.astype(np.int64) * 30_000
    elif dtype.itemsize == 1:
        values = values >> 8
    if dtype.kind == "i":
        values = values.astype(np.int64) - 2 ** (8 * dtype.itemsize - 1)
    file = io.BytesIO()
    options = dict(TIFF_LAYOUTS[layout])
    data = values.astype(dtype)
    data = np.moveaxis(data, 2, 0) if "planarconfig" in options and samples > 1 else data
    if samples == 1:
        options.pop("planarconfig", None)
        data = data[:, :, 0]
    with tifffile.TiffWriter(file, byteorder=type[0]) as writer:
        writer.write(data, photometric=photometric, extrasamples=extras or None, metadata=None, **options)
    return file.getvalue()


def float_tiffs() -> Iterator[Cell]:
    """Files of libvips, which writes differences of floats."""
    for samples, kind in ((1, "L"), (3, "RGB")):
        for tile in (False, True):
            stored = "tiles with Deflate of differences" if tile else "Deflate of differences"
            yield Cell("TIFF", kind, "32 bits float", stored, partial(_differences_of_floats, samples, tile))


def _differences_of_floats(samples: int, tile: bool) -> bytes:
    image = pyvips.Image.new_from_array(np.ascontiguousarray(scene(samples) / np.float32(65_535)))
    image = image.copy(interpretation="b-w" if samples == 1 else "rgb")
    options = {"tile": tile, "tile_width": 16, "tile_height": 16}
    return image.tiffsave_buffer(compression="deflate", predictor="float", **options)


def cells() -> Iterator[Cell]:
    for family in (jpegs, pngs, others, tiffs, float_tiffs):
        yield from family()

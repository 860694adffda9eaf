"""Files made of one unit of a format's grammar: fill, stuffing, chunks, blocks, tags, boxes, metadata.

`UNITS` maps "format unit" to a function that takes a size and makes a file of about that many bytes. The rest
of each file is an ordinary image of 64 x 48 pixels, so that the unit alone costs.
"""

import struct
import zlib
from collections.abc import Callable

from tests.support.data.image_files import box, chunk, encoded, grey_tiff, noise, segment

Make = Callable[[int], bytes]

_JPEG = encoded(noise(), "JPEG")
_PROGRESSIVE = encoded(noise(), "JPEG", progressive=True)
_PNG = encoded(noise(), "PNG")
_APNG = encoded(noise(), "PNG", save_all=True, append_images=[noise().rotate(90)])
_GIF = encoded(noise().quantize(16), "GIF")
_WEBP = encoded(noise(), "WEBP")
_AVIF = encoded(noise(), "AVIF", speed=10)
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"


def repeated(unit: bytes, size: int) -> bytes:
    """The unit, so often that it fills `size` bytes."""
    return unit * (size // len(unit) + 1)


def exif_of(size: int, entries: int) -> bytes:
    """EXIF of `entries` tags that all name the same bytes: all but the first."""
    head = b"II*\0" + struct.pack("<IH", 8, entries)
    tags = b"".join(struct.pack("<HHII", 1000 + tag, 7, max(5, size - 1), 1) for tag in range(entries))
    return (head + tags).ljust(size, b"\0")


# JPEG


def _in_front(unit: bytes) -> Make:
    return lambda size: _JPEG[:2] + repeated(unit, size) + _JPEG[2:]


def _in_tables(unit: bytes) -> Make:
    """In front of the scan, behind the tables."""
    scan = _JPEG.index(b"\xff\xda")
    return lambda size: _JPEG[:scan] + repeated(unit, size) + _JPEG[scan:]


def _in_scan(unit: bytes) -> Make:
    return lambda size: _JPEG[:-40] + repeated(unit, size) + _JPEG[-40:]


def _between_scans(unit: bytes) -> Make:
    scan = _PROGRESSIVE.rindex(b"\xff\xda")
    return lambda size: _PROGRESSIVE[:scan] + repeated(unit, size) + _PROGRESSIVE[scan:]


def _behind(data: bytes) -> Callable[[bytes], Make]:
    return lambda unit: lambda size: data + repeated(unit, size)


def _restarts(size: int) -> bytes:
    scan = _JPEG.index(b"\xff\xda")
    return _JPEG[:scan] + segment(0xDD, b"\0\1") + _JPEG[scan:-2] + repeated(b"\xff\xd0", size) + _JPEG[-2:]


def _table(marker: int) -> bytes:
    start = _JPEG.index(bytes((0xFF, marker)))
    return _JPEG[start : start + 2 + int.from_bytes(_JPEG[start + 2 : start + 4], "big")]


def _app1(body: bytes) -> bytes:
    return segment(0xE1, body[:65_533])


_JPEG_UNITS = {
    "fill": b"\xff",
    "stuffing": b"\xff\0",
    "restart": b"\xff\xd0",
    "temporary": b"\xff\x01",
    "zeros": b"\0",
    "junk": b"junk",
    "start": b"\xff\xd8",
    "end": b"\xff\xd9",
    "comment": segment(0xFE, b""),
    "long comment": segment(0xFE, bytes(65_000)),
    "application": segment(0xE5, b""),
    "long application": segment(0xE5, bytes(65_000)),
    "unknown": b"\xff\xf0",
    "quantization": _table(0xDB),
    "huffman": _table(0xC4),
    "interval": segment(0xDD, b"\0\0"),
    "frame": _table(0xC0),
    "photoshop": segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 5000),
    "profile": segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(65_000)),
    "xmp": _app1(_XMP + b"tiff:Orientation" * 4000),
    "exif": _app1(_EXIF + exif_of(65_000, 5000)),
    "empty exif": _app1(_EXIF),
    "picture": _JPEG,
}


def _exif_in_segments(size: int) -> bytes:
    body = exif_of(min(size, 20_000_000), 60_000)
    parts = [_app1(_EXIF + body[at : at + 65_000]) for at in range(0, len(body), 65_000)]
    return _JPEG[:2] + b"".join(parts) + _JPEG[2:]


# PNG


def _behind_header(unit: bytes) -> Make:
    return lambda size: _PNG[:33] + repeated(unit, size) + _PNG[33:]


def _in_data(unit: bytes) -> Make:
    end = len(_PNG) - 12
    return lambda size: _PNG[:end] + repeated(unit, size) + _PNG[end:]


def _data_in_parts(length: int) -> Make:
    """Image data in chunks of `length` bytes."""

    def make(size: int) -> bytes:
        height = size * length // (12 + length) // 1001
        rows = zlib.compress(bytes(1001 * height), 0)
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1000, height, 8, 0, 0, 0, 0))
        parts = b"".join(chunk(b"IDAT", rows[at : at + length]) for at in range(0, len(rows), length))
        return _PNG[:8] + header + parts + chunk(b"IEND", b"")

    return make


def _apng(unit: bytes) -> Make:
    end = len(_APNG) - 12
    return lambda size: _APNG[:end] + repeated(unit, size) + _APNG[end:]


_INFLATING = zlib.compress(bytes(1_000_000))
_PNG_UNITS = {
    "private": chunk(b"prVt", b""),
    "text": chunk(b"tEXt", b"a\0b"),
    "empty text": chunk(b"tEXt", b""),
    "compressed text": chunk(b"zTXt", b"a\0\0" + _INFLATING),
    "international text": chunk(b"iTXt", b"a\0\0\0\0\0b"),
    "xmp": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"tiff:Orientation" * 4000),
    "profile": chunk(b"iCCP", b"a\0\0" + _INFLATING),
    "exif": chunk(b"eXIf", exif_of(60_000, 5000)),
    "raw exif": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n8\n" + exif_of(60_000, 5000).hex().encode()),
    "time": chunk(b"tIME", bytes(7)),
    "palette": chunk(b"PLTE", bytes(3)),
    "transparency": chunk(b"tRNS", bytes(6)),
    "header": _PNG[8:33],
    "end": chunk(b"IEND", b""),
    "frame control": chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 64, 48, 0, 0, 1, 1, 0, 0)),
    "frame data": chunk(b"fdAT", bytes(4)),
    "animation": chunk(b"acTL", struct.pack(">II", 1, 0)),
    "data": chunk(b"IDAT", b""),
    "zeros": b"\0",
}


# GIF

_GIF_START = 13 + 3 * 16
_GIF_FRAME = b",\0\0\0\0\1\0\1\0\0\2\2D\1\0"


def _gif(unit: bytes) -> Make:
    return lambda size: _GIF[:_GIF_START] + repeated(unit, size) + _GIF[_GIF_START:]


def _gif_blocks(label: bytes, block: bytes) -> Make:
    return lambda size: _GIF[:_GIF_START] + b"!" + label + repeated(block, size) + b"\0" + _GIF[_GIF_START:]


def _gif_data(size: int) -> bytes:
    start = _GIF.index(b",", _GIF_START) + 11
    return _GIF[:start] + _GIF[start:-2] + repeated(b"\1\0\1\0".replace(b"\0", b"\1"), size) + b"\0;"


_GIF_UNITS = {
    "junk": b"x",
    "zeros": b"\0",
    "comment": b"!\xfe\1a\0",
    "empty extension": b"!\xfe\0",
    "control": b"!\xf9\4\0\0\0\0\0",
    "application": b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0",
    "text": b"!\1\x0c" + bytes(12) + b"\0",
    "frame": _GIF_FRAME,
    "end": b";",
}


# WebP


def _riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def _extended(flags: int) -> bytes:
    return _webp_chunk(b"VP8X", struct.pack("<I", flags) + b"\x3f\0\0\x2f\0\0")


def _webp(unit: bytes, flags: int = 0, behind: bool = False) -> Make:
    def make(size: int) -> bytes:
        units = repeated(unit, size)
        return _riff(_extended(flags), *((_WEBP[12:], units) if behind else (units, _WEBP[12:])))

    return make


def _webp_animation(unit: bytes) -> Make:
    start = _webp_chunk(b"ANIM", bytes(6))
    return lambda size: _riff(_extended(2), start, repeated(unit, size))


_PIXEL = encoded(noise((8, 8)).resize((1, 1)), "WEBP", lossless=True)[12:]
_WEBP_FRAME = _webp_chunk(b"ANMF", bytes(12) + b"\1\0\0\0" + _PIXEL)
_WEBP_UNITS: dict[str, Make] = {
    "unknown": _webp(b"prVt\0\0\0\0"),
    "unknown behind": _webp(b"prVt\0\0\0\0", behind=True),
    "exif": _webp(_webp_chunk(b"EXIF", b""), 8, behind=True),
    "one exif": lambda size: _riff(_extended(8), _WEBP[12:], _webp_chunk(b"EXIF", exif_of(size, 60_000))),
    "profile": _webp(_webp_chunk(b"ICCP", b""), 32),
    "xmp": _webp(_webp_chunk(b"XMP ", b""), 4, behind=True),
    "one xmp": lambda size: _riff(
        _extended(4), _WEBP[12:], _webp_chunk(b"XMP ", repeated(b"tiff:Orientation", size))
    ),
    "alpha": _webp(_webp_chunk(b"ALPH", b""), 16),
    "frame": _webp_animation(_WEBP_FRAME),
    "empty frame": _webp_animation(_webp_chunk(b"ANMF", bytes(16))),
    "picture": lambda size: _riff(_extended(0), repeated(_WEBP[12:], size)),
    "zeros": lambda size: _WEBP + bytes(size),
}


# BMP


def _bmp(width: int, height: int, bits: int, compression: int, data: bytes) -> bytes:
    palette = bytes(4 << bits) if bits <= 8 else b""
    start = 54 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + palette + data


def _rle(unit: bytes, bits: int) -> Make:
    return lambda size: _bmp(7000, 7000, bits, 1 if bits == 8 else 2, repeated(unit, size))


def _raw_bmp(size: int) -> bytes:
    return _bmp(1000, size // 3000, 24, 0, bytes(size))


_BMP_UNITS: dict[str, Make] = {
    "run": _rle(b"\1\1", 8),
    "run of none": _rle(b"\1\1" * 7000 + b"\0\0", 8),
    "run of four bits": _rle(b"\1\1", 4),
    "long run of four bits": _rle(b"\xff\1", 4),
    "line": _rle(b"\0\0", 8),
    "pixel and line": _rle(b"\1\1\0\0", 8),
    "delta": _rle(b"\0\2\0\0", 8),
    "absolute": _rle(b"\0\3\1\1\1\0", 8),
    "absolute of four bits": _rle(b"\0\xff" + bytes(128), 4),
    "pixels": _raw_bmp,
}


# TIFF


def _strips(size: int) -> bytes:
    """As many strips of a row of a pixel as a tag may have numbers."""
    rows = min(400_000, size // 8, 65_535)
    return grey_tiff(1, rows, 8, bytes(rows), {278: (4, [1]), 273: (4, [8] * rows), 279: (4, [1] * rows)})


def _tiles(size: int) -> bytes:
    count = min(400_000, size // 8)
    side = 16 * int(count**0.5)
    count = (side // 16) ** 2
    tags = {322: (4, [16]), 323: (4, [16]), 324: (4, [8] * count), 325: (4, [256] * count)}
    return grey_tiff(side, side, 8, bytes(256), {**tags, 273: (4, []), 279: (4, [])})


def _packed_strips(size: int) -> bytes:
    rows = min(400_000, size // 8, 65_535)
    packed = {259: (3, [32773]), 278: (4, [1]), 273: (4, [8] * rows), 279: (4, [2] * rows)}
    return grey_tiff(1, rows, 8, b"\0\0" * rows, packed)


def _many_tags(kind: int, numbers: int) -> Make:
    def make(size: int) -> bytes:
        width = 4 * numbers
        tags = {tag: (kind, [7] * numbers) for tag in range(400, 400 + min(900, size // width))}
        return grey_tiff(9, 9, 8, bytes(81), {**tags, 282: (4, [7] * numbers)})

    return make


def _pages(size: int) -> bytes:
    """A chain of empty directories behind a first page of no pixels."""
    count = size // 6
    head = b"II*\0" + struct.pack("<I", 8)
    return head + b"".join(struct.pack("<HI", 0, 8 + 6 * (number + 1)) for number in range(count)) + bytes(6)


_TIFF_UNITS: dict[str, Make] = {
    "strip": _strips,
    "packed strip": _packed_strips,
    "tile": _tiles,
    "tag": _many_tags(4, 5000),
    "number": _many_tags(4, 400_000),
    "page": _pages,
    "xmp": lambda size: grey_tiff(9, 9, 8, bytes(81), {700: (4, [7] * 400_000)}),
}


# AVIF


def _avif_boxes(unit: bytes) -> Make:
    """In front of the description; its offsets are of no account, as the walk comes first."""
    start = int.from_bytes(_AVIF[:4], "big")
    return lambda size: _AVIF[:start] + repeated(unit, size) + _AVIF[start:]


def _in_meta(unit: bytes, container: tuple[bytes, ...] = (b"meta",)) -> Make:
    """Units at the end of a container; the offset of the picture's data is moved."""

    def make(size: int) -> bytes:
        units = repeated(unit, size)
        data = bytearray(_AVIF)
        end = 0
        for kind in container:
            start = data.index(kind) - 4
            old = int.from_bytes(data[start : start + 4], "big")
            data[start : start + 4] = (old + len(units)).to_bytes(4, "big")
            end = start + old
        place = data.index(b"iloc") + 18  # one extent: its offset
        where = int.from_bytes(data[place : place + 4], "big")
        data[place : place + 4] = (where + len(units)).to_bytes(4, "big")
        data[end:end] = units
        return bytes(data)

    return make


def _item(number: int, kind: bytes = b"Exif") -> bytes:
    return box(b"infe", struct.pack(">I", 0x03000000), struct.pack(">IH", number, 0), kind, b"\0")


def _items(kind: bytes) -> Make:
    def make(size: int) -> bytes:
        count = size // len(_item(1, kind))
        units = b"".join(_item(number + 9, kind) for number in range(count))
        return _in_meta(units, (b"meta", b"iinf"))(1)

    return make


_AVIF_UNITS: dict[str, Make] = {
    "free": _avif_boxes(box(b"free")),
    "free in meta": _in_meta(box(b"free")),
    "free in items": _in_meta(box(b"free"), (b"meta", b"iinf")),
    "property": _in_meta(box(b"free"), (b"meta", b"iprp", b"ipco")),
    "ispe": _in_meta(box(b"ispe", bytes(12)), (b"meta", b"iprp", b"ipco")),
    "reference": _in_meta(box(b"iref", bytes(4), box(b"cdsc", b"\0\1\0\1\0\1") * 1000)),
    "exif item": _items(b"Exif"),
    "other item": _items(b"mime"),
    "picture item": _items(b"av01"),
    "group": _in_meta(box(b"grpl", box(b"altr", bytes(8)) * 1000)),
}


def _units() -> dict[str, Make]:
    units: dict[str, Make] = {}
    for name, unit in _JPEG_UNITS.items():
        places = {"": _in_front, " at the scan": _in_tables, " in the scan": _in_scan}
        places |= {" between scans": _between_scans, " behind": _behind(_JPEG)}
        units |= {f"JPEG {name}{where}": place(unit) for where, place in places.items()}
    units["JPEG restart in intervals"] = _restarts
    units["JPEG exif in segments"] = _exif_in_segments
    for name, unit in _PNG_UNITS.items():
        units[f"PNG {name}"] = _behind_header(unit)
        units[f"PNG {name} in the data"] = _in_data(unit)
        units[f"PNG {name} behind"] = _behind(_PNG)(unit)
        units[f"PNG {name} in an animation"] = _apng(unit)
    units |= {f"PNG data of {length} bytes": _data_in_parts(length) for length in (1, 8, 200)}
    raw = b"Raw profile type exif\0\nexif\n8\n"
    units["PNG one raw exif"] = lambda size: (
        _PNG[:33] + chunk(b"tEXt", raw + exif_of(size // 2, 60_000).hex().encode()) + _PNG[33:]
    )
    units["PNG one exif"] = lambda size: _PNG[:33] + chunk(b"eXIf", exif_of(size, 60_000)) + _PNG[33:]
    for name, unit in _GIF_UNITS.items():
        units[f"GIF {name}"] = _gif(unit)
        units[f"GIF {name} behind"] = _behind(_GIF[:-1])(unit)
    labels = {"comment": b"\xfe", "application": b"\xff", "control": b"\xf9", "text": b"\1"}
    for name, label in labels.items():
        units[f"GIF {name} block"] = _gif_blocks(label, b"\1a")
        units[f"GIF long {name} block"] = _gif_blocks(label, b"\xff" + bytes(255))
    units["GIF data block"] = _gif_data
    named = {"WEBP": _WEBP_UNITS, "BMP": _BMP_UNITS, "TIFF": _TIFF_UNITS, "AVIF": _AVIF_UNITS}
    for format, makers in named.items():
        units |= {f"{format} {name}": make for name, make in makers.items()}
    return units


UNITS = _units()

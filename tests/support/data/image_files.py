"""Image files for the decoder's tests: of every format, hand-made headers, and files with false claims."""

import io
import struct
import zlib

import numpy as np
import pillow_heif
from PIL import Image as pillow
from PIL.PngImagePlugin import PngInfo

from models.images.decoder import Image, Limits

pillow_heif.register_heif_opener()
LIMITS = Limits(1_000_000)
RED, GREEN, BLUE, YELLOW, WHITE = (220, 20, 30), (20, 180, 60), (30, 40, 220), (240, 220, 30), (255, 255, 255)
ORIENTATION, MAKE = 0x0112, 0x010F  # EXIF tags
Tags = dict[int, tuple[int, list[int]]]  # TIFF: number to (type 3, 4 or 9, values)

KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    "jpeg-progressive": ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {"quality": 95}),
    "webp-lossless": ("WEBP", {"lossless": True}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff-deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "tiff-packbits": ("TIFF", {"compression": "packbits"}),
    "tiff-jpeg": ("TIFF", {"compression": "jpeg", "quality": 95}),
    "tiff-big": ("TIFF", {"big_tiff": True}),
    "avif": ("AVIF", {"quality": 95}),
}


def corners(size: tuple[int, int] = (64, 32)) -> pillow.Image:
    """Four flat quadrants: red, green; blue, yellow."""
    width, height = size
    picture = pillow.new("RGB", size, RED)
    picture.paste(GREEN, (width // 2, 0, width, height // 2))
    picture.paste(BLUE, (0, height // 2, width // 2, height))
    picture.paste(YELLOW, (width // 2, height // 2, width, height))
    return picture


def encoded(picture: pillow.Image, format: str, **options: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, format, **options)
    return content.getvalue()


def noise(size: tuple[int, int] = (64, 48), mode: str = "RGB") -> pillow.Image:
    values = np.random.default_rng(3).integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    return pillow.fromarray(values).resize(size, pillow.Resampling.BICUBIC).convert(mode)


def exif(orientation: int, make: str | None = None) -> pillow.Exif:
    tags = pillow.Exif()
    tags[ORIENTATION] = orientation
    if make:
        tags[MAKE] = make
    return tags


def pixel(image: Image, x: int, y: int) -> tuple[int, ...]:
    return tuple(int(value) for value in image.pixels[y, x])


def near(colour: tuple[int, ...], expected: tuple[int, ...], tolerance: int = 8) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(colour, expected, strict=True))


def samples() -> list[tuple[str, bytes]]:
    """(format, file) of every format, with transparency, EXIF, palettes and several frames."""
    picture, alpha = noise(), noise(mode="RGBA")
    text = PngInfo()
    text.add_text("key", "text " * 20, zip=True)
    tags = exif(6, "a camera")
    made = [(format, encoded(picture, format, **options)) for format, options in KINDS.values()]
    made += [(each, encoded(picture, each, exif=tags)) for each in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")]
    made += [(each, encoded(alpha, each)) for each in ("PNG", "WEBP", "TIFF", "AVIF")]
    return [
        *made,
        ("PNG", encoded(picture.quantize(16), "PNG", transparency=3, pnginfo=text)),
        ("GIF", encoded(picture.quantize(16), "GIF", comment=b"text")),
        ("BMP", encoded(picture.quantize(16), "BMP")),
        ("HEIF", encoded(picture, "HEIF", exif=tags.tobytes())),
        ("HEIF", encoded(picture, "HEIF", tile_size=32)),
        ("JPEG", encoded(picture.convert("CMYK"), "JPEG")),
        ("PNG", encoded(picture, "PNG", save_all=True, append_images=[picture.rotate(90)])),
    ]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *others: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(others) + data + chunk(b"IEND", b"")


def with_png_chunks(data: bytes, *chunks: bytes) -> bytes:
    return data[:33] + b"".join(chunks) + data[33:]  # behind IHDR


def with_jpeg_segments(data: bytes, *segments: bytes) -> bytes:
    return data[:2] + b"".join(segments) + data[2:]


def without_segment(data: bytes, marker: int) -> bytes:
    start = data.index(bytes((0xFF, marker)))
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def tiff(tags: Tags, strip: bytes, order: str = "<") -> bytes:
    """A TIFF of one strip, which tags 273 and 279 name."""
    tags = {273: (4, [8]), 279: (4, [len(strip)]), **tags}
    tags = {tag: value for tag, value in tags.items() if value[1]}
    padded = strip + bytes(len(strip) % 2)
    directory = 8 + len(padded)
    rest = directory + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag, (kind, numbers) in sorted(tags.items()):
        value = struct.pack(f"{order}{len(numbers)}{ {3: 'H', 4: 'I', 9: 'i'}[kind] }", *numbers)
        if len(value) > 4:
            value, values = struct.pack(order + "I", rest + len(values)), values + value
        entries += struct.pack(order + "HHI", tag, kind, len(numbers)) + value.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", directory)
    return head + padded + struct.pack(order + "H", len(tags)) + entries + bytes(4) + values


def grey_tiff(
    width: int, height: int, bits: int, strip: bytes, more: Tags | None = None, order: str = "<"
) -> bytes:
    sizes = {256: (4, [width]), 257: (4, [height])}
    rest = {258: (3, [bits]), 259: (3, [1]), 262: (3, [1]), 277: (3, [1])}
    return tiff({**sizes, **rest, **(more or {})}, strip, order)


def box(kind: bytes, *bodies: bytes) -> bytes:
    body = b"".join(bodies)
    return struct.pack(">I", len(body) + 8) + kind + body


def avif(unit: bytes, brand: bytes = b"avif", iloc: bytes | None = None) -> bytes:
    """An AVIF's skeleton with one AV1 item."""
    file_type = box(b"ftyp", brand, bytes(4), b"avif", b"mif1")
    item = box(b"infe", bytes((2, 0, 0, 0)), struct.pack(">HH", 1, 0), b"av01", b"\0")
    items = box(b"iinf", bytes(4), struct.pack(">H", 1), item)

    def meta(start: int) -> bytes:
        place = struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, start, len(unit))
        return box(b"meta", bytes(4), items, box(b"iloc", bytes(4), place if iloc is None else iloc))

    start = len(file_type) + len(meta(0)) + 8
    return file_type + meta(start) + box(b"mdat", unit)


def jpeg_of(width: int, height: int) -> bytes:
    data = encoded(corners(), "JPEG")
    frame = data.index(b"\xff\xc0")
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


def gif_of(screen: tuple[int, int], frame: tuple[int, int]) -> bytes:
    data = encoded(corners().quantize(4), "GIF")
    start = data.index(b",", 13 + 3 * 4)
    head = data[:6] + struct.pack("<HH", *screen) + data[10:start]
    return head + b",\0\0\0\0" + struct.pack("<HH", *frame) + data[start + 9 :]


def gif_frame(box: tuple[int, int, int, int], colour: int, disposal: int = 0) -> bytes:
    """A frame of one colour at (left, top, width, height); its codes of 8 bits begin anew at each pixel."""
    control = b"!\xf9\4" + bytes((disposal << 2, 0, 0, 0, 0)) if disposal else b""
    codes = bytes((128, colour)) * (box[2] * box[3]) + b"\x81"
    blocks = b"".join(
        struct.pack("B", len(codes[at : at + 255])) + codes[at : at + 255] for at in range(0, len(codes), 255)
    )
    return control + b"," + struct.pack("<4HB", *box, 0) + b"\7" + blocks + b"\0"


def gif_on_canvas(canvas: tuple[int, int], *frames: bytes) -> bytes:
    """A GIF of the palette green, red, blue; no frame has a transparent colour."""
    palette = bytes((*GREEN, *RED, *BLUE)).ljust(3 * 128, b"\0")
    return b"GIF89a" + struct.pack("<HHBBB", *canvas, 0xF6, 0, 0) + palette + b"".join(frames) + b";"


def webp_of(kind: bytes, width: int, height: int) -> bytes:
    data = encoded(pillow.new("RGBA", (64, 32), (*RED, 99)), "WEBP", lossless=True)
    start = data.index(b"VP8L")
    if kind == b"VP8L":
        bits = width - 1 | height - 1 << 14
        body = b"VP8L" + data[start + 4 : start + 9] + struct.pack("<I", bits) + data[start + 13 :]
    else:
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        body = b"VP8X" + struct.pack("<IB3x", 10, 16) + sides + data[start:]
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def avif_of(claim: tuple[int, int], truth: tuple[int, int] = (64, 32)) -> bytes:
    data = encoded(pillow.new("RGB", truth, RED), "AVIF", speed=10)
    start = data.index(b"ispe") + 8
    return data[:start] + struct.pack(">II", *claim) + data[start + 8 :]


def tiled_tiff(width: int, height: int) -> bytes:
    tile = {322: (4, [width]), 323: (4, [height]), 324: (4, [8]), 325: (4, [900])}
    content = zlib.compress(bytes(width * height if width < 9000 else 900))
    return grey_tiff(64, 64, 8, content, {259: (3, [8]), **tile})

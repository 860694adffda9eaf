"""Damaged files are an image or an ImageError whose text may be shown, on any number of threads."""

import random
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from models.images.decoder import ImageError, UnreadableImage, decode
from models.images.openers import FORMATS
from tests.models.images.test_headers import check_text
from tests.support.data.image_files import (
    KINDS,
    LIMITS,
    avif,
    box,
    chunk,
    encoded,
    grey_tiff,
    noise,
    png,
    samples,
)


def check_outcome(data: bytes) -> None:
    try:
        image = decode(data, LIMITS)
    except ImageError as error:
        check_text(error)
    else:
        assert image.width * image.height <= LIMITS.max_pixels


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("kind", [*KINDS, "gif"])
def test_truncated_data_is_invalid(kind: str, share: float) -> None:
    format, options = KINDS.get(kind, ("GIF", {}))
    data = encoded(noise(), format, **options)
    with pytest.raises(UnreadableImage):
        decode(data[: int(len(data) * share)], LIMITS)


NO_META = box(b"ftyp", b"avif", bytes(4), b"avif")
DAMAGED = {
    "png without its palette": png(2, 1, 8, 3, bytes(3)),
    "png with a short header after the picture": (
        encoded(noise(), "PNG")[:-12] + chunk(b"tRNS", b"") + chunk(b"IHDR", b"") + chunk(b"IEND", b"")
    ),
    "png of an unknown colour type": png(2, 1, 8, 5, bytes(9)),
    "tiff with negative colours": grey_tiff(2, 1, 8, bytes(2), {262: (3, [3]), 320: (9, [-1] * 768)}),
    "tiff with a float for a size": grey_tiff(2, 1, 8, bytes(2)).replace(
        struct.pack("<HHI", 256, 4, 1), struct.pack("<HHI", 256, 11, 1)
    ),
    "tiff without a picture": b"II*\0" + struct.pack("<IHI", 8, 0, 0),
    "bigtiff cut off": b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**62),
    "avif without anything": NO_META,
    "avif without items": NO_META + box(b"meta", bytes(4)),
    "avif cut off in a box": avif(b"\x12\0")[:60],
    "avif with a box in 64 bits": NO_META + struct.pack(">I4sQ", 1, b"meta", 2**40),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_known_damage_is_invalid(data: bytes) -> None:
    with pytest.raises(UnreadableImage):
        decode(data, LIMITS)


@pytest.mark.parametrize("format", [format for format in FORMATS if format != "JXL"])  # a process each
def test_damaged_data_is_an_image_or_an_image_error(format: str, capfd: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(f"damage {format}")  # noqa: S311 - the same damage in every run
    originals = [data for name, data in samples() if name == format]
    for number in range(400):
        data = bytearray(originals[number % len(originals)])
        reach = min(len(data), chance.choice((40, 200, 10**6)))
        for _ in range(chance.choice((1, 1, 2, 5))):
            place = chance.randrange(reach)
            data[place : place + chance.choice((0, 1, 1, 4))] = chance.choice(
                (b"\0", b"\xff", b"\xff\xff\xff\xff", b"\0\0\0\0", bytes((chance.randrange(256),)), b"")
            )
        check_outcome(bytes(data))


def chunks_of(data: bytes) -> list[tuple[bytes, bytearray]]:
    chunks, position = [], 8
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        chunks.append(
            (data[position + 4 : position + 8], bytearray(data[position + 8 : position + 8 + length]))
        )
        position += 12 + length
    return chunks


def test_damaged_chunks_with_a_right_checksum_are_an_image_or_an_image_error() -> None:
    chance = random.Random("chunks")  # noqa: S311 - the same damage in every run
    kinds = b"IHDR PLTE tRNS IDAT eXIf iCCP zTXt iTXt acTL fcTL fdAT pHYs".split()
    originals = [data for name, data in samples() if name == "PNG"]
    for number in range(400):
        data = originals[number % len(originals)]
        chunks = chunks_of(data)
        where = chance.randrange(len(chunks))
        if number % 3 == 0:
            chunks.insert(where, (chance.choice(kinds), bytearray(chance.randbytes(chance.randrange(30)))))
        elif number % 3 == 1:
            del chunks[where]
        elif body := chunks[where][1]:
            body[chance.randrange(len(body))] = chance.randrange(256)
        check_outcome(data[:8] + b"".join(chunk(kind, bytes(body)) for kind, body in chunks))


def test_damaged_tags_are_an_image_or_an_image_error(capfd: pytest.CaptureFixture[str]) -> None:
    chance = random.Random("tags")  # noqa: S311 - the same damage in every run
    originals = [data for name, data in samples() if name == "TIFF" and data[:4] == b"II*\0"]
    for number in range(600):
        data = bytearray(originals[number % len(originals)])
        (start,) = struct.unpack_from("<I", data, 4)
        (entries,) = struct.unpack_from("<H", data, start)
        entry = start + 2 + 12 * chance.randrange(entries)
        values = (0, 1, 2, 3, 7, 8, 64, 65_535, 2**31, 2**32 - 1, len(data), chance.getrandbits(32))
        value = chance.choice(values)
        field = chance.choice((("<H", 2, value % 19), ("<I", 4, value), ("<I", 8, value)))
        struct.pack_into(field[0], data, entry + field[1], field[2])
        check_outcome(bytes(data))


def test_many_threads_decode_as_one_does() -> None:
    work = samples() + [(format, data[: len(data) // 2]) for format, data in samples()]

    def outcome(data: bytes) -> object:
        try:
            return zlib.crc32(decode(data, LIMITS).pixels)
        except ImageError as exc:
            return str(exc)

    alone = [outcome(data) for _, data in work]
    assert len(set(alone)) > 10
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(outcome, [data for _, data in work] * 5)) == alone * 5

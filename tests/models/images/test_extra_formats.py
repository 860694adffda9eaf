"""HEIC, JPEG XL, sequences of AVIF, faxes, and the JPEG in a camera's raw file."""

import struct

import numpy as np
import pillow_jxl  # noqa: F401 - registers the encoder
import pytest
from PIL import Image as pillow

from models.images import jxl_process
from models.images.decoder import Image, OversizedImage, UnreadableImage, decode
from models.images.formats import avif, heif
from tests.models.images.test_headers import check_text
from tests.support.data.image_files import (
    BLUE,
    GREEN,
    LIMITS,
    RED,
    WHITE,
    YELLOW,
    Tags,
    box,
    corners,
    encoded,
    exif,
    near,
    noise,
    pixel,
    segment,
    tiff,
)

LARGE = {"quality": 95}


def shows_the_corners(image: Image, width: int = 64, height: int = 32) -> bool:
    """Whether an image of any size has the four colours in its quadrants."""
    x, y = width // 8, height // 8
    expected = {(x, y): RED, (width - x, y): GREEN, (x, height - y): BLUE, (width - x, height - y): YELLOW}
    assert (image.width, image.height) == (width, height)
    return all(near(pixel(image, *place), colour, 12) for place, colour in expected.items())


HEIC = encoded(corners((256, 128)), "HEIF", **LARGE)


def test_a_heic_is_read_and_a_grid_of_tiles_too() -> None:
    assert shows_the_corners(decode(HEIC, LIMITS), 256, 128)
    tiles = encoded(corners((250, 130)), "HEIF", tile_size=64, **LARGE)
    assert tiles.count(b"hvc1") > 4
    assert shows_the_corners(decode(tiles, LIMITS), 250, 130)


def test_a_heic_is_turned_by_its_container_and_not_by_its_exif() -> None:
    turned = encoded(corners((256, 128)), "HEIF", exif=exif(6).tobytes(), **LARGE)
    image = decode(turned, LIMITS)
    assert (image.width, image.height) == (128, 256)
    assert near(pixel(image, 112, 32), RED, 12)
    assert (decode(turned.replace(b"MM\0*", b"??\0*"), LIMITS).pixels == image.pixels).all()


def test_transparency_of_a_heic_is_white() -> None:
    image = decode(encoded(pillow.new("RGBA", (64, 64), (*RED, 0)), "HEIF"), LIMITS)
    assert near(pixel(image, 32, 32), WHITE, 4)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_a_heic_that_is_cut_short_is_invalid(share: float) -> None:
    with pytest.raises(UnreadableImage) as refusal:
        decode(HEIC[: int(len(HEIC) * share)], LIMITS)
    check_text(refusal.value)


def with_size(data: bytes, kind: bytes, values: bytes, skip: int = 4) -> bytes:
    start = data.index(kind) + 4 + skip
    return data[:start] + values + data[start + len(values) :]


def test_the_size_in_the_data_of_a_heic_counts_beside_the_one_it_claims() -> None:
    large = encoded(pillow.new("RGB", (2048, 1024)), "HEIF")
    assert heif.cleaned(large)[1].count((2048, 1024)) >= 2
    liar = with_size(large, b"ispe", struct.pack(">II", 64, 32))
    for data in (large, liar, with_size(HEIC, b"ispe", struct.pack(">II", 9000, 9000))):
        with pytest.raises(OversizedImage, match="scale it down"):
            decode(data, LIMITS)


def test_tiles_of_a_heic_are_bounded_by_its_picture() -> None:
    tiles = encoded(corners((250, 130)), "HEIF", tile_size=64, **LARGE)
    start = tiles.index(b"dimg") - 4
    reader = struct.unpack_from(">I4sHH", tiles, start)
    many = struct.pack(">HH", reader[2], 9000) + struct.pack(">H", 1) * 9000
    link = box(b"dimg", many)
    grown = len(link) - reader[0]
    data = bytearray(tiles[:start] + link + tiles[start + reader[0] :])
    for kind in (b"meta", b"iref"):
        at = data.index(kind) - 4
        data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") + grown).to_bytes(4, "big")
    with pytest.raises(UnreadableImage, match="tiles"):
        decode(bytes(data), LIMITS)


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 95, "use_container": True}])
def test_a_jpeg_xl_is_read(options: dict[str, object]) -> None:
    assert shows_the_corners(decode(encoded(corners(), "JXL", effort=3, **options), LIMITS))


def test_modes_and_sizes_of_jpeg_xl() -> None:
    clear = decode(encoded(pillow.new("RGBA", (40, 30), (*RED, 0)), "JXL", lossless=True), LIMITS)
    assert pixel(clear, 20, 15) == WHITE
    levels = np.array([[0, 257, 32896, 65535]], np.uint16)
    wide = decode(encoded(pillow.fromarray(levels), "JXL", lossless=True), LIMITS)
    assert wide.pixels[0, :, 0].tolist() == [0, 1, 128, 255]


def test_a_jpeg_xl_beyond_the_limit_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jxl_process.sys, "executable", "/nowhere")
    for size in ((1280, 800), (1000, 1001), (4000, 3000)):
        with pytest.raises(OversizedImage, match=f"{size[0]} x {size[1]} = "):
            decode(encoded(pillow.new("RGB", size), "JXL", effort=1), LIMITS)


def test_a_jpeg_xl_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        jxl_process, "BYTES", 2**20
    )  # as no layers are at hand: a bound of memory ends it too
    with pytest.raises(UnreadableImage, match="JXL image is damaged"):
        decode(encoded(corners(), "JXL", effort=1), LIMITS)


@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
def test_a_jpeg_xl_that_is_cut_short_is_invalid(share: float) -> None:
    data = encoded(noise((200, 100)), "JXL", effort=1)
    with pytest.raises(UnreadableImage, match="damaged, cut short"):
        decode(data[: int(len(data) * share)], LIMITS)


def track_alone(data: bytes) -> bytes:
    """A sequence without the items that repeat its first frame, as video encoders write it."""
    return data[:40].replace(b"avif", b"msf1") + data[40:].replace(b"meta", b"free", 1)


def test_the_first_frame_of_a_sequence_of_avif_is_shown() -> None:
    frames = [pillow.new("RGB", (64, 32), RED), pillow.new("RGB", (64, 32), BLUE)]
    data = encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:], speed=10)
    assert data[8:12] == b"avis"
    assert near(pixel(decode(data, LIMITS), 32, 16), RED)
    assert avif.cleaned(data)[1].count((64, 32)) >= 1
    assert near(pixel(decode(track_alone(data), LIMITS), 32, 16), RED)


def test_the_frames_of_a_sequence_of_avif_are_bounded() -> None:
    frames = [pillow.new("RGB", (2048, 1024), colour) for colour in (RED, BLUE)]
    data = encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:], speed=10)
    with pytest.raises(OversizedImage, match="2048 x 1024"):
        decode(track_alone(data), LIMITS)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "lzma", "zstd"])
def test_compressions_of_scanners_and_programs_are_read(compression: str) -> None:
    mode = "1" if compression in ("group3", "group4", "tiff_ccitt") else "RGB"
    picture = noise((128, 96)).convert(mode)
    image = decode(encoded(picture, "TIFF", compression=compression), LIMITS)
    assert (image.pixels == np.asarray(picture.convert("RGB"))).all()


def test_damaged_faxes_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encoded(noise((256, 2000)).convert("1"), "TIFF", compression="group4"))
    data[100:-400:11] = b"\x55" * len(data[100:-400:11])
    try:
        decode(bytes(data), LIMITS)
    except UnreadableImage as error:
        check_text(error)
    assert capfd.readouterr().err == ""


PREVIEW = encoded(corners((800, 600)), "JPEG", quality=95)
SENSOR: Tags = {256: (4, [64]), 257: (4, [64]), 258: (3, [16]), 259: (3, [34713]), 262: (3, [32803])}


def raw_tiff(orientation: int = 1, *others: bytes, preview: bytes = PREVIEW) -> bytes:
    """A camera's raw file: a directory of a sensor's data, with JPEGs behind it."""
    small = encoded(pillow.new("RGB", (160, 120), WHITE), "JPEG")
    return tiff({**SENSOR, 274: (3, [orientation])}, bytes(100)) + small + preview + b"".join(others)


RAWS = {
    "TIFF of a sensor": raw_tiff(),
    "Olympus": b"IIRO\x08\0\0\0" + bytes(40) + PREVIEW,
    "Panasonic": b"IIU\0\x18\0\0\0" + bytes(40) + PREVIEW,
    "Fujifilm": b"FUJIFILMCCD-RAW 0201" + bytes(80) + PREVIEW,
    "Canon CR2": b"II*\0\x10\0\0\0CR\2\0" + bytes(40) + PREVIEW,
    "Canon CR3": box(b"ftyp", b"crx ", bytes(4), b"crx isom") + box(b"mdat", bytes(40), PREVIEW),
}


@pytest.mark.parametrize("data", RAWS.values(), ids=RAWS)
def test_the_largest_jpeg_of_a_raw_file_is_shown(data: bytes) -> None:
    image = decode(data, LIMITS)
    assert image.format == "JPEG"
    assert shows_the_corners(image, 800, 600)


def test_the_jpeg_of_a_raw_file_is_turned_as_the_camera_says() -> None:
    image = decode(raw_tiff(6), LIMITS)
    assert (image.width, image.height) == (600, 800)
    own = PREVIEW[:2] + segment(0xE1, exif(3).tobytes()) + PREVIEW[2:]
    assert decode(raw_tiff(6, preview=own), LIMITS).width == 800  # the preview states its own


def test_a_raw_file_without_a_preview_says_so() -> None:
    thumbnail = encoded(pillow.new("RGB", (160, 120)), "JPEG")
    for data in (raw_tiff(preview=b""), raw_tiff(preview=thumbnail), b"IIRO" + bytes(99)):
        with pytest.raises(UnreadableImage, match="raw data and no preview of it; convert it to JPEG"):
            decode(data, LIMITS)

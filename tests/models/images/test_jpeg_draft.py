"""Drafts: what a large JPEG becomes for a small canvas, where its pixels lie, and who gets all of them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

from models.detections import Detections
from models.images import drawing
from models.images.decoder import Limits, OversizedImage, UnreadableImage, decode, read
from models.images.jpeg_draft import DRAFT_MARGIN, Draft
from tests.support.fakes import CARD, picture
from tests.support.served import Served

LIMITS = Limits(20_000_000)
CANVAS = (64, 128)  # limits of the short and the long side, px
ORIENTATION = 0x0112
WAVE = 200.0  # px: so long that a draft shows it as it is, so short that a shift of a pixel is seen
TOLERANCE = 0.7  # of 255 levels, on average; a shift of one image pixel makes two more


def wave(width: int, height: int) -> pillow.Image:
    """Waves across, down and both ways: smooth, and different at every edge."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    planes = [np.sin(2 * np.pi * (along / WAVE + phase)) for phase, along in enumerate((x, y + 30, x + y))]
    return pillow.fromarray((127.5 + 120 * np.stack(planes, axis=-1)).round().astype(np.uint8))


def jpeg(image: pillow.Image, orientation: int = 1, **options: object) -> bytes:
    exif = pillow.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, exif=exif, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("size", "scale"),
    [
        ((640, 480), 2),  # the short side rules: 480 is 7.5 times its limit; the long one would say 5
        ((480, 640), 2),
        ((1200, 300), 4),  # the long side rules: 9.4
        ((512, 256), 2),
        ((511, 255), 1),  # 3.99 times the canvas: a half would be less than twice
        ((1024, 512), 4),
        ((1023, 511), 2),
        ((1024, 1024), 8),
        ((4000, 3000), 8),
        ((100, 80), 1),
        ((3000, 5), 4),  # 23 times, but of 5 pixels an eighth would be none
    ],
)
def test_a_draft_is_as_small_as_the_canvas_allows(size: tuple[int, int], scale: int) -> None:
    from models.pipeline.canvas import resized

    width, height = size
    image = decode(jpeg(pillow.new("RGB", size, "teal")), LIMITS, CANVAS)
    assert (image.width, image.height) == size
    assert (image.draft.scale if image.draft else 1) == scale
    assert image.pixels.shape == (-(-height // scale), -(-width // scale), 3)
    if scale > 1:
        least = [DRAFT_MARGIN * side for side in resized(height, width, *CANVAS)]
        assert image.pixels.shape[0] >= least[0]
        assert image.pixels.shape[1] >= least[1]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(1201, 803), (1603, 1205), (1600, 1208), (807, 1601)])
def test_a_draft_shows_the_same_at_the_same_place(size: tuple[int, int], orientation: int) -> None:
    """Sides that no scale divides, turned and flipped: the canvas is that of the whole image."""
    from models.pipeline.canvas import prepare

    data = jpeg(wave(*size), orientation)
    whole, drafted = decode(data, LIMITS), decode(data, LIMITS, (100, 150))
    assert whole.draft is None
    assert drafted.draft is not None
    assert (drafted.width, drafted.height) == (whole.width, whole.height)
    ours, expected = prepare(drafted, 100, 150), prepare(whole, 100, 150)
    assert (ours.content, ours.image_size) == (expected.content, expected.image_size)
    height, width = ours.content
    difference = (ours.pixels - expected.pixels)[:height, :width].abs() * 255 * 0.225
    for part in (difference, difference[:3], difference[-3:], difference[:, :3], difference[:, -3:]):
        assert part.mean() < TOLERANCE


def test_a_flip_puts_the_pixels_that_reach_over_the_edge_first() -> None:
    """1601 x 1205 at a quarter: 401 x 302 pixels reach 3 px over the right and lower edge."""
    expected = {
        1: Draft(1205, 1601, 4, 0, 0),
        2: Draft(1205, 1601, 4, 0, -3),
        3: Draft(1205, 1601, 4, -3, -3),
        4: Draft(1205, 1601, 4, -3, 0),
        5: Draft(1601, 1205, 4, 0, 0),
        6: Draft(1601, 1205, 4, 0, -3),
        7: Draft(1601, 1205, 4, -3, -3),
        8: Draft(1601, 1205, 4, -3, 0),
    }
    for orientation, draft in expected.items():
        image = decode(jpeg(pillow.new("RGB", (1601, 1205)), orientation), LIMITS, (130, 200))
        assert image.draft == draft, orientation
        assert image.pixels.shape == ((302, 401, 3) if orientation < 5 else (401, 302, 3))


@pytest.mark.parametrize("format", ["PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_only_jpegs_come_as_drafts(format: str) -> None:
    assert decode(picture(800, 600, format), LIMITS, CANVAS).draft is None


def test_pixels_given_as_pixels_are_no_draft() -> None:
    assert read(np.zeros((600, 800, 3), np.uint8), LIMITS, CANVAS).draft is None
    assert read(picture(800, 600, "JPEG"), LIMITS).draft is None


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_every_kind_of_jpeg_keeps_its_colours(mode: str, options: dict[str, object]) -> None:
    data = jpeg(pillow.new("RGB", (803, 601), (40, 90, 200)).convert(mode), **options)
    whole, drafted = decode(data, LIMITS), decode(data, LIMITS, CANVAS)
    assert drafted.draft is not None
    assert drafted.draft.scale == 4
    assert np.abs(drafted.pixels.astype(int) - whole.pixels[:151, :201]).max() <= 2


def test_the_pixel_limit_is_that_of_the_image() -> None:
    data = jpeg(pillow.new("RGB", (1000, 1001)))
    with pytest.raises(OversizedImage, match="1000 x 1001 = 1001000 pixels"):
        decode(data, Limits(1_000_000), CANVAS)


def test_a_truncated_file_is_no_draft_either() -> None:
    data = jpeg(wave(1200, 900))
    with pytest.raises(UnreadableImage, match="damaged, cut short"):
        decode(data[: len(data) // 2], LIMITS, CANVAS)


def test_drawing_on_a_draft_is_refused() -> None:
    image = decode(jpeg(pillow.new("RGB", (1200, 900))), LIMITS, CANVAS)
    with pytest.raises(ValueError, match="without canvas_limits"):
        drawing.draw(image, Detections.empty(), ())


async def test_the_service_finds_on_a_draft_and_draws_on_all_pixels(served: Served) -> None:
    """Sizes and boxes are those of the image; the drawing has every pixel of it."""
    data = jpeg(wave(1201, 903))
    answer = (await served.client.post("/detect", files={"image": data})).json()
    assert answer["image"] == {"width": 1201, "height": 903}
    assert answer["boxes"][0] == pytest.approx([0.125 * 1201, 0.25 * 903, 0.5 * 1201, 0.75 * 903], abs=1e-3)
    # 903 is 7.05 times the fake card's short side: a half of it is more than twice the canvas
    assert len(served.detector.rows[-1]) == 3 * 601
    drawn = await served.client.post("/detect?format=png&max_detections=1", files={"image": data})
    assert len(served.detector.rows[-1]) == 3 * 601
    shown = np.asarray(pillow.open(io.BytesIO(drawn.content)))
    whole = decode(data, LIMITS).pixels
    assert shown.shape == whole.shape
    assert (shown[700:] == whole[700:]).all()  # below the box


async def test_a_larger_size_asks_for_more_pixels(served: Served) -> None:
    data = jpeg(wave(1201, 903))
    await served.client.post(f"/detect?size={3 * CARD.min_size}", files={"image": data})
    assert len(served.detector.rows[-1]) == 3 * 1201


@pytest.mark.network
def test_the_benchmark_distinguishes_drafts_from_whole_images(tmp_path: Path) -> None:
    from bench import draft as bench
    from models.detector import DetectorSpec, load_detector
    from models.shapes.scenes import LABELS

    spec = DetectorSpec(model="shapes", cache_dir=tmp_path, device="cpu", engine="torch")
    whole, drafted = bench.compare(bench.scenes(3, 2400, 5.0), LABELS, load_detector(spec), [DRAFT_MARGIN])
    assert (whole["margin"], whole["scales"], whole["ratio"], whole["agreement"]) == (0, [1], 1, 1)
    assert set(drafted["scales"]) <= {2, 4}
    assert drafted["AP"] == pytest.approx(whole["AP"], abs=0.05)
    assert whole["AP"] > 0.8

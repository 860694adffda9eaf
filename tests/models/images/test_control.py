"""A decode asks for its memory before it takes it, and stops between its steps when it is told to."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from PIL import Image as pillow

from models.images.control import DecodeControl, DecodeStopped
from models.images.decoder import Limits, UnreadableImage, decode
from models.images.video.frames import frame_steps
from tests.support.data.image_files import KINDS, RED, encoded, noise
from tests.support.data.moving import animation, video

LIMITS = Limits(10_000_000)
PIXELS = 64 * 48


@dataclass
class Recorder(DecodeControl):
    """Records what is reserved, and stops the decode at the check number `stop_at`."""

    stop_at: int = 1_000_000
    checks: int = 0
    reserved: list[int] = field(default_factory=list)

    def reserve(self, nbytes: int) -> None:
        self.reserved.append(nbytes)

    def check(self) -> None:
        self.checks += 1
        if self.checks == self.stop_at:
            raise DecodeStopped


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_reserves_at_least_a_picture_and_its_rgb(kind: str) -> None:
    format, options = KINDS[kind]
    recorder = Recorder()
    decode(encoded(noise(), format, **options), LIMITS, control=recorder)
    assert max(recorder.reserved) >= 4 * PIXELS


@pytest.mark.parametrize(
    ("format", "mode", "options", "per_pixel"),
    [
        ("PNG", "L", {}, 4),
        ("PNG", "RGB", {}, 7),
        ("JPEG", "RGB", {}, 7),
        ("JPEG", "RGB", {"progressive": True}, 10),
        ("JPEG", "CMYK", {"progressive": True}, 12),
        ("WEBP", "RGB", {"lossless": True}, 19),
        ("AVIF", "RGB", {}, 12),
        ("TIFF", "F", {}, 19),
    ],
)
def test_the_memory_depends_on_format_and_mode(
    format: str, mode: str, options: dict[str, bool], per_pixel: int
) -> None:
    picture = noise().convert("L").convert(mode) if mode == "F" else noise().convert(mode)
    recorder = Recorder()
    decode(encoded(picture, format, **options), LIMITS, control=recorder)
    assert max(recorder.reserved) == per_pixel * PIXELS


def test_a_draft_reserves_its_own_pixels() -> None:
    recorder = Recorder()
    decode(encoded(noise((1600, 1200)), "JPEG"), LIMITS, (64, 64), control=recorder)
    assert recorder.reserved == [7 * 200 * 150]


def test_a_webp_reserves_before_it_is_opened() -> None:
    data = bytearray(encoded(noise(), "WEBP", lossless=True))
    data[40:] = bytes(len(data) - 40)
    recorder = Recorder()
    with pytest.raises(UnreadableImage):
        decode(bytes(data), LIMITS, control=recorder)
    assert recorder.reserved[0] == 19 * PIXELS


@pytest.mark.parametrize("stop_at", [1, 2, 3, 6])
def test_a_decode_stops_between_its_steps(stop_at: int) -> None:
    recorder = Recorder(stop_at)
    with pytest.raises(DecodeStopped):
        decode(encoded(pillow.new("RGB", (1000, 1000), RED), "PNG"), LIMITS, control=recorder)
    assert recorder.checks == stop_at


@pytest.mark.parametrize("data", [animation("GIF"), animation("WEBP"), animation("TIFF"), video()])
def test_a_skipped_frame_is_a_step_that_reserves_its_memory(data: bytes) -> None:
    recorder = Recorder()
    steps = frame_steps(data, LIMITS, 4, recorder)
    indices, reserved = [], []
    for frame in steps:
        indices.append(frame.index if frame else None)
        reserved.append(len(recorder.reserved))
    assert indices == [0, None, None, None, 4]
    assert all(later > earlier for earlier, later in pairwise(reserved))

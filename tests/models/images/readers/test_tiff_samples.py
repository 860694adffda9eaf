"""TIFF's samples of every type: turned, in several pages, damaged, and of more bytes than a picture needs."""

import io

import numpy as np
import pytest
import tifffile

from models.images.decoder import Limits, OversizedImage, UnreadableImage, decode
from models.images.video.frames import read_frames
from tests.support.data.image_files import LIMITS, grey_tiff

FLOAT = {339: (3, [3]), 258: (3, [32])}
RAMP = np.array([[0.0, 0.5], [0.25, 1.0], [0.75, 0.0]], np.float32)
SHOWN = np.array([[0, 128], [64, 255], [191, 0]])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_floats_are_turned_by_their_tag(orientation: int) -> None:
    data = grey_tiff(2, 3, 32, RAMP.tobytes(), {**FLOAT, 274: (3, [orientation])})
    turned = SHOWN.T if orientation >= 5 else SHOWN
    rows, columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    expected = turned[:: -1 if rows else 1, :: -1 if columns else 1]
    assert decode(data, LIMITS).pixels[:, :, 1].tolist() == expected.tolist()


def test_each_page_has_its_own_samples() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for page in (RAMP, (SHOWN * 257).astype(np.uint16), SHOWN.astype(np.uint8)):
            writer.write(page, metadata=None, photometric="minisblack")
    frames = [frame.pixels[:, :, 0] for frame in read_frames(file.getvalue(), LIMITS)]
    assert [frame.tolist() for frame in frames] == [SHOWN.tolist()] * 3


def test_more_depths_than_samples_are_read_by_the_first_ones() -> None:
    data = grey_tiff(2, 3, 32, RAMP.tobytes(), {**FLOAT, 258: (3, [32, 1, 8])})
    assert decode(data, LIMITS).pixels[:, :, 1].tolist() == SHOWN.tolist()


REFUSED = {
    "samples": ({277: (3, [17])}, "17 samples a pixel"),
    "depths": ({277: (3, [2]), 258: (3, [32, 16])}, "numbers of 16, 32 bits"),
    "a depth": ({258: (3, [24])}, "numbers of 24 bits"),
    "fewer strips": ({277: (3, [3]), 284: (3, [2]), 262: (3, [2])}, "fewer than 3 strips"),
    "a tile": ({322: (4, [10_000]), 323: (4, [99]), 324: (4, [8]), 325: (4, [24]), 277: (3, [16])}, None),
    "bands": ({277: (3, [4])}, "no colours by its photometric interpretation 1"),
    "a compression": ({259: (3, [7])}, "samples of 32 bits in compression 7"),
    "no size of a strip": ({278: (4, [0])}, "strips or tiles of 2 x 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_samples_that_are_not_read_are_refused_with_the_reason(name: str) -> None:
    tags, reason = REFUSED[name]
    with pytest.raises((UnreadableImage, OversizedImage), match=reason):
        decode(grey_tiff(2, 3, 32, RAMP.tobytes(), {**FLOAT, **tags}), LIMITS)


def test_a_tile_of_many_bytes_is_refused() -> None:
    tile = {322: (4, [3000]), 323: (4, [400]), 324: (4, [8]), 325: (4, [24])}
    wide = {277: (3, [16]), 262: (3, [2]), 258: (3, [64])}
    with pytest.raises(UnreadableImage, match="strips or tiles of more than"):
        decode(grey_tiff(2, 3, 64, RAMP.tobytes(), {**FLOAT, **tile, **wide}), Limits(2_000_000))


def test_a_signalling_nan_is_black_as_others_are() -> None:
    numbers = RAMP.view(np.uint32).copy()
    numbers[0, 0] = 0x7FA00000
    assert decode(grey_tiff(2, 3, 32, numbers.tobytes(), FLOAT), LIMITS).pixels[0, :, 0].tolist() == [0, 128]


@pytest.mark.parametrize("cut", [1, 20])
def test_damaged_samples_are_damaged(cut: int) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, np.tile(RAMP, (20, 20)), compression="zlib", metadata=None)
    data = bytearray(file.getvalue())
    data[-cut * 2 :] = bytes(cut * 2)
    with pytest.raises(UnreadableImage, match="damaged"):
        decode(bytes(data), LIMITS)

"""The picture of a TIFF is its first page of full size, wherever its thumbnail lies."""

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
import tifffile

from models.images.decoder import UnreadableImage, decode
from models.images.video.frames import read_frames
from tests.support.data.image_files import LIMITS

REDUCED, PAGE, MASK = 1, 2, 4  # NewSubfileType
Pages = list[tuple[int, int, int | None]]  # width, level, NewSubfileType


def document(pages: Pages, children: Pages | tuple[()] = (), **options: bool) -> bytes:
    """A TIFF of grey pages; the children lie in SubIFDs of the first."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file, **options) as writer:
        for number, (width, level, kind) in enumerate([pages[0], *children, *pages[1:]]):
            data = np.full((width // 2, width), level, np.uint8)
            subs = len(children) if number == 0 else 0
            writer.write(data, subfiletype=kind, subifds=subs, photometric="minisblack", metadata=None)
    return file.getvalue()


PAGES: dict[str, Callable[[], bytes]] = {
    "one page": lambda: document([(64, 99, None)]),
    "a document": lambda: document([(64, 99, PAGE), (128, 9, PAGE)]),
    "pages without a type": lambda: document([(64, 99, None), (128, 9, None)]),
    "its thumbnail first": lambda: document([(16, 9, REDUCED), (64, 99, None)]),
    "its mask first": lambda: document([(64, 9, REDUCED), (64, 99, None)]).replace(
        struct.pack("<HHII", 254, 4, 1, REDUCED), struct.pack("<HHII", 254, 4, 1, MASK)
    ),
    "a thumbnail and SubIFDs": lambda: document([(16, 9, REDUCED)], [(64, 99, None), (32, 9, REDUCED)]),
    "one child": lambda: document([(16, 9, REDUCED)], [(64, 99, None)]),
    "big-endian": lambda: document([(16, 9, REDUCED)], [(64, 99, None)], byteorder=">"),
    "BigTIFF": lambda: document([(16, 9, REDUCED)], [(32, 9, REDUCED), (64, 99, None)], bigtiff=True),
    "a pyramid": lambda: document([(64, 99, None), (32, 9, REDUCED), (16, 9, REDUCED)]),
    "a pyramid in SubIFDs": lambda: document([(64, 99, None)], [(32, 9, REDUCED)]),
    "previews alone": lambda: document([(16, 9, REDUCED), (64, 99, REDUCED), (32, 9, REDUCED)]),
}


@pytest.mark.parametrize("name", PAGES)
def test_the_picture_is_the_page_of_full_size(name: str) -> None:
    data = PAGES[name]()
    image = decode(data, LIMITS)
    assert (image.width, image.height, image.pixels.max()) == (64, 32, 99)
    assert next(read_frames(data, LIMITS)).pixels.shape == (32, 64, 3)


def test_a_big_endian_bigtiff_is_refused_as_such() -> None:
    with pytest.raises(UnreadableImage, match="structure of a big-endian BigTIFF"):
        decode(document([(64, 99, None)], bigtiff=True, byteorder=">"), LIMITS)


def test_broken_positions_of_pages_are_passed_over() -> None:
    data = document([(16, 9, REDUCED), (64, 99, None)], [(32, 9, REDUCED), (32, 9, REDUCED)])
    start = data.index(bytes((0x4A, 1)))  # SubIFDs
    for place in (0, 7, len(data), 2**32 - 1):
        broken = data[: start + 8] + place.to_bytes(4, "little") + data[start + 12 :]
        assert decode(broken, LIMITS).width == 64

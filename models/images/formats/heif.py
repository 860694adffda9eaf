"""HEIF and HEIC: bounds the items, and reads the real sizes of pictures from HEVC's parameter sets.

As in an AVIF, a file's claim of its size may differ from what its data takes: a decoder allocates what the
sequence parameter set (H.265, 7.3.2.2) says. The picture of a phone is a grid of tiles, each an item; the
grid has a size of its own, and its tiles are bounded together.
"""

from collections.abc import Iterator

from models.images.formats import isobmff
from models.images.formats.errors import HeaderError, Size
from models.images.formats.isobmff import Bits, Box, Kinds

MAX_UNITS = 50_000  # HEVC units (NALs) in a file: a tile has about one
MAX_SETS = 1_000  # sequence parameter sets of an item, 0.1 ms each; it has one
MAX_OVERHANG = 4  # times the pixels of the largest picture that all tiles of a file may have …
TILE_PIXELS = 4_194_304  # … and so many more: a single tile may be larger than its picture
_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2"})
_CODED, _COMPOSED = frozenset({b"hvc1", b"hev1"}), frozenset({b"grid", b"iovl"})
_PARAMETERS = 33  # the type of a sequence parameter set
_PARAMETER_BYTES = 512  # of one, up to the size; at most some 120


def is_heif(data: bytes) -> bool:
    """Whether the file's brands include HEIF. AVIF, whose brands may too, comes first."""
    return not _BRANDS.isdisjoint(isobmff.brands(data))


def cleaned(data: bytes) -> tuple[bytes, tuple[Size, ...]]:
    """The file with its metadata hidden, and the sizes of all pictures and tiles. Raises HeaderError."""
    isobmff.check_boxes(data)
    meta = isobmff.item_boxes(data)
    kinds = isobmff.item_kinds(data, meta)
    coded = [*_parameter_sets(data, meta, kinds)]
    claimed = [*_claimed_sizes(data, meta), *_composed_sizes(data, meta, kinds)]
    _check_tiles(_tiles(data, meta, kinds), coded, claimed)
    return isobmff.without_metadata(data, kinds), (*claimed, *coded)


def _check_tiles(tiles: int, coded: list[Size], claimed: list[Size]) -> None:
    """Bound the pixels of all tiles together by those of the picture."""
    largest = max((width * height for width, height in claimed), default=0)
    tile = max((width * height for width, height in coded), default=0)
    if tiles * tile > MAX_OVERHANG * largest + TILE_PIXELS:
        raise HeaderError("tiles of many more pixels than its picture has")


def _tiles(data: bytes, meta: dict[bytes, Box], kinds: Kinds) -> int:
    """The number of links from a composed picture to its tiles. Raises HeaderError if a tile is composed."""
    if b"iref" not in meta:
        return 0
    start = meta[b"iref"].start
    wide, count = data[start : start + 1] > b"\0", 0
    for link in isobmff.nested(data, meta[b"iref"], b"dimg"):
        reader = isobmff.Reader(data, link.start, link.end)
        composed = kinds.get(reader.take(4 if wide else 2), (b"", 0))[0] in _COMPOSED
        for _ in range(reader.take(2)):
            kind = kinds.get(reader.take(4 if wide else 2), (b"", 0))[0]
            if composed and kind not in _CODED:
                raise HeaderError("tiles that are no pictures of HEVC")
            count += composed
    return count


def _claimed_sizes(data: bytes, meta: dict[bytes, Box]) -> Iterator[Size]:
    """The sizes that the container claims (ispe)."""
    for box in _properties(data, meta, b"ispe"):
        reader = isobmff.Reader(data, box.start + 4, box.end)
        yield reader.take(4), reader.take(4)


def _composed_sizes(data: bytes, meta: dict[bytes, Box], kinds: Kinds) -> Iterator[Size]:
    """The sizes of grids and overlays, from their data."""
    for item, content in isobmff.contents(data, meta, kinds, _COMPOSED).items():
        reader = isobmff.Reader(content, 0, len(content))
        width = 4 if reader.take(2) & 1 else 2  # version and flags
        reader.take(2 if kinds[item][0] == b"grid" else 8)  # rows and columns, or the colour behind
        yield reader.take(width), reader.take(width)


def _properties(data: bytes, meta: dict[bytes, Box], kind: bytes) -> Iterator[Box]:
    if b"iprp" in meta:
        yield from isobmff.nested(data, meta[b"iprp"], b"ipco", kind)


def _parameter_sets(data: bytes, meta: dict[bytes, Box], kinds: Kinds) -> Iterator[Size]:
    """The size in each sequence parameter set: of the decoder's configurations, and of the pictures' data."""
    widths = set[int]()
    for box in _properties(data, meta, b"hvcC"):
        widths.add((data[box.start + 21] & 3) + 1 if box.start + 21 < box.end else 4)
        yield from _sizes(_configured(data, box))
    for content in isobmff.contents(data, meta, kinds, _CODED).values():
        for width in widths or {4}:
            yield from _sizes(_units(content, width))


def _sizes(units: Iterator[bytes]) -> Iterator[Size]:
    sets = 0
    for number, unit in enumerate(units):
        is_set = bool(unit) and unit[0] >> 1 & 63 == _PARAMETERS
        sets += is_set
        if number > MAX_UNITS or sets > MAX_SETS:
            raise HeaderError(f"more than {MAX_UNITS} HEVC units, or {MAX_SETS} parameter sets")
        if is_set:
            yield _frame_size(Bits(unit[2:].replace(b"\0\0\3", b"\0\0")))


def _configured(data: bytes, box: Box) -> Iterator[bytes]:
    """The units of a decoder's configuration (hvcC)."""
    reader = isobmff.Reader(data, box.start + 22, box.end)
    for _ in range(reader.take(1)):
        reader.take(1)  # their type, which each states too
        for _ in range(reader.take(2)):
            length = reader.take(2)
            yield data[reader.position : reader.position + min(length, _PARAMETER_BYTES)]
            reader.position += length


def _units(content: bytes, width: int) -> Iterator[bytes]:
    """The first bytes of each unit of a picture, each behind its length of so many bytes."""
    position = 0
    while position + width < len(content):
        length = int.from_bytes(content[position : position + width], "big")
        position += width
        yield content[position : position + min(length, _PARAMETER_BYTES)]
        position += length


def _frame_size(bits: Bits) -> Size:
    """Read seq_parameter_set_rbsp() up to the size of the picture."""
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + 96)  # profile and level
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    bits.take(2 * (8 - layers) if layers else 0)
    for profile, level in present:
        bits.take(88 * profile + 8 * level)
    bits.exp_golomb()
    if bits.exp_golomb() == 3:  # 4:4:4
        bits.take(1)
    return bits.exp_golomb(), bits.exp_golomb()

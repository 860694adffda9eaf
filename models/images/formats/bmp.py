"""BMP: bounds the data in runs, and gives a DIB (a bitmap without the head of a file) its head."""

from models.images.formats.errors import HeaderError, Size

# Runs are decoded in Python, 0.3 µs each, and empty pixels one at a time. Such files are rare.
MAX_RLE_BYTES = 2_000_000
MAX_RLE_PIXELS = 8_000_000

_HEADS = frozenset({12, 40, 52, 56, 64, 108, 124})  # bytes of a bitmap's description, by its version
_DEPTHS = frozenset({1, 2, 4, 8, 16, 24, 32})
_FILE_HEAD = b"BM" + bytes(12)  # without a position of the pixels: they follow the palette


def is_dib(data: bytes) -> bool:
    """Whether the data is a bitmap as programs pass it in memory, without the head of a file."""
    head = int.from_bytes(data[:4], "little")
    planes = int.from_bytes(data[8:10] if head == 12 else data[12:14], "little")
    depth = int.from_bytes(data[10:12] if head == 12 else data[14:16], "little")
    return head in _HEADS and planes == 1 and depth in _DEPTHS and len(data) > head


def cleaned(data: bytes) -> tuple[bytes, tuple[Size, ...]]:
    """The file with its head. Raises HeaderError where its runs of pixels are too many."""
    data = data if data.startswith(b"BM") else _FILE_HEAD + data
    head, compression = int.from_bytes(data[14:18], "little"), int.from_bytes(data[30:34], "little")
    if head >= 40 and compression in (1, 2):  # in runs of 8 or of 4 bits a pixel
        width, height = (abs(int.from_bytes(data[at : at + 4], "little", signed=True)) for at in (18, 22))
        start = int.from_bytes(data[10:14], "little")
        if len(data) - start > MAX_RLE_BYTES or width * height > MAX_RLE_PIXELS:
            raise HeaderError(f"more than {MAX_RLE_BYTES} bytes or {MAX_RLE_PIXELS} pixels in runs (RLE)")
    return data, ()

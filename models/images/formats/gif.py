"""GIF: bounds the blocks, and drops extensions that no picture needs."""

from models.images.formats.errors import HeaderError, Size

MAX_BLOCKS = 2_000_000  # in the frames that are read, 0.5 s; 20 MB in the usual blocks of 255 bytes: 80 000
ALL_FRAMES = 1_000_000  # more than fit into a request's body

_CONTROL = 0xF9  # the extension with a frame's duration, transparency and disposal


def cleaned(data: bytes, frames: int = 1) -> tuple[bytes, tuple[Size, ...]]:
    """The file with no extension but the frames' control. Raises HeaderError.

    Bounds the blocks up to the frame number `frames`, counted from 1; what follows is left as it is.
    """
    position = _after_palette(data, 10, 13)
    parts, blocks = [data[:position]], 0
    for number in range(1, frames + 1):
        control, start, blocks = _next_frame(data, position, blocks)
        parts.append(control)
        if number == frames or data[start : start + 1] != b",":
            parts.append(data[start:])
            break
        position, blocks = _after_frame(data, start, blocks)
        parts.append(data[start:position])
    return b"".join(parts), ()


def _after_palette(data: bytes, flags_at: int, position: int) -> int:
    """The position after the palette at `position`, if the flags say that there is one."""
    flags = data[flags_at] if len(data) > flags_at else 0
    return position + ((6 << (flags & 7)) if flags & 0x80 else 0)


def _next_frame(data: bytes, position: int, blocks: int) -> tuple[bytes, int, int]:
    """The control of the next frame, its position or that of the end, and the number of blocks so far."""
    control, size = b"", len(data)
    while position < size and data[position] not in b",;":
        start, blocks = position, blocks + 1
        if data[position] == 0x21:  # "!" and a label start an extension; anything else is skipped
            position, blocks = _after_blocks(data, position + 2, blocks)
            if data[start + 1 : start + 2] == bytes((_CONTROL,)):
                control = data[start:position]
        else:
            position += 1
        if blocks > MAX_BLOCKS:
            raise _too_many()
    return control, position, blocks


def _after_frame(data: bytes, start: int, blocks: int) -> tuple[int, int]:
    """The position after a frame's palette and data, and the number of blocks so far."""
    code_size = _after_palette(data, start + 9, start + 10)
    return _after_blocks(data, code_size + 1, blocks)


def _after_blocks(data: bytes, position: int, blocks: int) -> tuple[int, int]:
    """The position after blocks of data, each behind its length; an empty one is the last."""
    size = len(data)
    while position < size and (length := data[position]):
        position, blocks = position + 1 + length, blocks + 1
        if blocks > MAX_BLOCKS:
            raise _too_many()
    return position + 1, blocks


def _too_many() -> HeaderError:
    return HeaderError(f"more than {MAX_BLOCKS} blocks")

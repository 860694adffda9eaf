"""What the units of all formats have in common."""

import struct
from collections.abc import Callable

Make = Callable[[int], bytes]
"""Makes a file of about so many bytes."""


def repeated(unit: bytes, size: int) -> bytes:
    """The unit, so often that it fills `size` bytes."""
    return unit * (size // len(unit) + 1)


def exif_of(size: int, entries: int) -> bytes:
    """EXIF of `entries` tags that all name the same bytes: all but the first."""
    head = b"II*\0" + struct.pack("<IH", 8, entries)
    tags = b"".join(struct.pack("<HHII", 1000 + tag, 7, max(5, size - 1), 1) for tag in range(entries))
    return (head + tags).ljust(size, b"\0")


def behind(data: bytes) -> Callable[[bytes], Make]:
    """The units behind the data of a whole file."""
    return lambda unit: lambda size: data + repeated(unit, size)

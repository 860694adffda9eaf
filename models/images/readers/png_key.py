"""The transparent colour of a PNG (tRNS) in the units that Pillow reads the pixels in.

The file states it in the units of its own depth. Pillow widens 2 and 4 bits to 8, and keeps the higher byte
of 16-bit colours, but leaves the key as it is.
"""

from io import BytesIO

import numpy as np
from PIL import Image as pillow
from PIL.PngImagePlugin import PngImageFile

_GREY_UNITS = {"L;2": (3, 85), "L;4": (15, 17), "L": (255, 1)}  # the bits that count, and their weight
_HIGH_BYTES, _LOW_BYTES = "RGB;16B", "RGB;16L"  # Pillow's names of what it takes of a 16-bit colour
KEY_BYTES = 24  # a pixel: the lower bytes, both as arrays, what they equal, and RGBA


class KeyedPng(PngImageFile):
    """Pillow's reader of PNG, which makes exactly those pixels transparent that have the key's colour."""

    _wide_key: tuple[int, ...] | None = None

    @property
    def bytes_beside(self) -> int:
        """Bytes a pixel that loading takes beside the picture."""
        return KEY_BYTES if self._wide_key else 0

    def _open(self) -> None:
        super()._open()
        key, stored = self.info.get("transparency"), str(self.tile[0].args) if self.tile else ""
        if isinstance(key, int) and stored in _GREY_UNITS:
            mask, weight = _GREY_UNITS[stored]
            self.info["transparency"] = (key & mask) * weight
        elif isinstance(key, tuple) and stored == _HIGH_BYTES:
            self.info["transparency"] = tuple(value >> 8 for value in key)
            self._wide_key = None if self.is_animated else key
        elif isinstance(key, tuple):
            self.info["transparency"] = tuple(value & 255 for value in key)

    def load_end(self) -> None:
        """Compare the lower bytes of 16-bit colours too."""
        super().load_end()
        if self._wide_key and "transparency" in self.info:
            key, data = np.array(self._wide_key), self.fp.getvalue() if isinstance(self.fp, BytesIO) else b""
            low = PngImageFile(BytesIO(data))
            low.tile = [low.tile[0]._replace(args=_LOW_BYTES)]
            same = (np.asarray(self) == key >> 8).all(-1) & (np.asarray(low) == key & 255).all(-1)
            self.putalpha(pillow.fromarray(~same))
            del self.info["transparency"]

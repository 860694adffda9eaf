"""Decodes JPEG XL in a process of its own, with bounds on its time and memory.

A small file may have thousands of layers of the whole picture, and does not say so where it can be read
without decoding it. The process is this file, run as a program. The package is under the GPL: so it stays a
program of its own.
"""

import subprocess
import sys
from io import BytesIO

from PIL.ImageFile import ImageFile, _Tile

SECONDS, SECONDS_A_MEGAPIXEL = 10, 1  # of CPU; measured at 3 and 12 megapixels: 0.03 to 0.22 a megapixel
BYTES, BYTES_A_PIXEL = 2**30, 96  # of address space: the libraries, and the decoder's planes
_MODES = ("L", "LA", "RGB", "RGBA", "I;16", "F")


class JxlImageFile(ImageFile):
    """A picture as the process writes it: its mode and size in a line, then the pixels."""

    format = "JXL"
    format_description = "JPEG XL image"

    def _open(self) -> None:
        assert self.fp is not None  # noqa: S101 - for the type: Pillow opens with a file
        mode, width, height = self.fp.readline().decode().split()
        if mode not in _MODES:
            raise SyntaxError(f"mode {mode}")
        self._mode, self._size = mode, (int(width), int(height))
        self.tile = [_Tile("raw", (0, 0, *self._size), self.fp.tell(), mode)]


def open_jxl(file: BytesIO, pixels: int) -> ImageFile:
    """A picture of so many pixels. Raises OSError where the process fails or takes too much."""
    seconds = SECONDS + SECONDS_A_MEGAPIXEL * pixels // 1_000_000
    command = [sys.executable, "-I", __file__, str(seconds), str(BYTES + BYTES_A_PIXEL * pixels)]
    done = subprocess.run(  # noqa: S603 - this interpreter and this file
        command, input=file.getvalue(), capture_output=True, timeout=4 * seconds, check=False
    )
    if done.returncode:
        raise OSError(f"the decoder of JPEG XL ended with {done.returncode}")
    return JxlImageFile(BytesIO(done.stdout))


def _decode(seconds: int, nbytes: int) -> None:
    """Read a file from the standard input, and write its picture to the standard output."""
    import resource

    from pillow_jxl import Decoder

    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (nbytes, nbytes))
    _, info, pixels, _, _ = Decoder(num_threads=0)(sys.stdin.buffer.read())
    mode = "F" if info.mode == "F;16" else info.mode
    sys.stdout.buffer.write(f"{mode} {info.width} {info.height}\n".encode())
    sys.stdout.buffer.write(pixels)


if __name__ == "__main__":
    _decode(int(sys.argv[1]), int(sys.argv[2]))

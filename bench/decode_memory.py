"""Memory that decoding takes, by format and mode: `python -m bench.decode_memory`.

Each file is decoded in a process of its own, which has decoded a small PNG before. The figure is the growth
of its peak RSS (VmHWM, Linux) per pixel, the decoded image included and the file not, and that of the process
of JPEG XL. `reserved` is what the service reserves before it decodes (models/images/memory.py).
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401 - registers its encoder
from PIL import Image as pillow

from bench.harness.machine import describe_machine, title
from bench.harness.options import Columns, command_line, print_table, write_json

COLUMNS: Columns = {
    "file": "{name}",
    "measured, bytes a pixel": "{measured:.2f}",
    "reserved": "{reserved:.2f}",
}

MEASURE = """
import io, resource, sys
from pathlib import Path
from PIL import Image
from models.images.decoder import Limits, decode
from models.images.control import DecodeControl

class Recorder(DecodeControl):
    most = 0
    def reserve(self, nbytes):
        self.most = max(self.most, nbytes)

def status(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024

small = io.BytesIO()
Image.new("RGB", (64, 64)).save(small, "PNG")
decode(small.getvalue(), Limits(10**9))
data, recorder = Path(sys.argv[1]).read_bytes(), Recorder()
before = status("VmRSS")
image = decode(data, Limits(10**9), control=recorder)
grown = status("VmHWM") - before + 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(grown / image.width / image.height, recorder.most / image.width / image.height)
"""


def pictures(width: int, height: int) -> dict[str, pillow.Image]:
    """The same scene in each mode that a file can have."""
    values = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    colour = pillow.fromarray(values).resize((width, height), pillow.Resampling.BICUBIC)
    grey = colour.convert("L")
    clear = colour.convert("RGBA")
    clear.putalpha(grey)
    levels = np.asarray(grey)
    made = {mode: colour.convert(mode) for mode in ("1", "L", "RGB", "CMYK")}
    made |= {"RGBA": clear, "LA": clear.convert("LA"), "P": colour.quantize(64)}
    made |= {"I;16": pillow.fromarray(levels.astype(np.uint16) * 257)}
    return made | {
        "F": pillow.fromarray(levels.astype(np.float32)),
        "I": pillow.fromarray(levels.astype(np.int32)),
    }


def files(width: int, height: int, folder: Path, only: str = "") -> Iterator[tuple[str, Path]]:
    """Write the files whose name has `only` in it, one at a time: (name, path)."""
    made = pictures(width, height)
    pillow_heif.register_heif_opener()
    cases = [case for case in _cases() if only in case[0]]
    for number, (name, mode, format, options) in enumerate(cases):
        path = folder / str(number)
        made[mode].save(path, format, **options)
        yield name, path
        path.unlink()


def _cases() -> Iterator[tuple[str, str, str, dict[str, object]]]:
    """(name, mode, format, options of the encoder)."""
    for mode in ("L", "RGB", "CMYK"):
        yield f"JPEG {mode}", mode, "JPEG", {}
        yield f"JPEG {mode} progressive", mode, "JPEG", {"progressive": True}
    yield "JPEG RGB progressive 4:4:4", "RGB", "JPEG", {"progressive": True, "subsampling": 0}
    for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16"):
        yield f"PNG {mode}", mode, "PNG", {"compress_level": 1}
    yield "PNG P transparent", "P", "PNG", {"compress_level": 1, "transparency": 3}
    yield "GIF P", "P", "GIF", {}
    yield "GIF P transparent", "P", "GIF", {"transparency": 3}
    for mode in ("RGB", "RGBA"):
        yield f"WEBP {mode}", mode, "WEBP", {"method": 0}
        yield f"WEBP {mode} lossless", mode, "WEBP", {"lossless": True, "method": 0, "quality": 0}
    for mode in ("1", "P", "RGB"):
        yield f"BMP {mode}", mode, "BMP", {}
    for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "I"):
        yield f"TIFF {mode}", mode, "TIFF", {}
        yield f"TIFF {mode} Deflate", mode, "TIFF", {"compression": "tiff_adobe_deflate"}
    yield "TIFF RGB JPEG", "RGB", "TIFF", {"compression": "jpeg"}
    for subsampling in ("4:2:0", "4:4:4"):
        yield f"AVIF RGB {subsampling}", "RGB", "AVIF", {"speed": 10, "subsampling": subsampling}
    yield "AVIF L", "L", "AVIF", {"speed": 10, "subsampling": "4:0:0"}
    yield "AVIF RGBA", "RGBA", "AVIF", {"speed": 10}
    for mode in ("RGB", "RGBA"):
        yield f"HEIF {mode}", mode, "HEIF", {}
        yield f"HEIF {mode} tiles", mode, "HEIF", {"tile_size": 512}
        yield f"JXL {mode}", mode, "JXL", {"effort": 1}
        yield f"JXL {mode} lossless", mode, "JXL", {"effort": 1, "lossless": True}


def measure(path: Path) -> tuple[float, float]:
    """Bytes a pixel that decoding the file takes, and that the service reserves for it."""
    command = [sys.executable, "-c", MEASURE, str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  # our own script
    measured, reserved = map(float, answer.stdout.split())
    return measured, reserved


def main() -> None:
    """Print a row for each format and mode."""
    parser = command_line(__doc__)
    parser.add_argument("--width", type=int, default=4000, help="px; the height is three quarters of it")
    parser.add_argument("--only", default="", help="a part of the names of the files to measure")
    arguments, machine = parser.parse_args(), describe_machine()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, path in files(arguments.width, arguments.width * 3 // 4, Path(folder), arguments.only):
            measured, reserved = measure(path)
            rows.append({"name": name, "measured": measured, "reserved": reserved})
    print_table(f"{arguments.width} x {arguments.width * 3 // 4} px; {title(machine)}", COLUMNS, rows)
    write_json(arguments.json, machine, rows=rows)


if __name__ == "__main__":
    main()

"""Compares the decoder with Pillow over a folder of image files: `python -m tests.fuzz.corpus FOLDER`.

Prints how many of the files that Pillow decodes in our formats are read here, and why the others are not. A
file that raises anything but ImageError is a fault: exit code 1. Made for Pillow's own test images
(Tests/images of its repository), which are not part of this one.
"""

import argparse
import sys
import warnings
from io import BytesIO
from pathlib import Path

from PIL import Image as pillow

from models.images.decoder import ImageError, Limits, decode
from models.images.openers import FORMATS

LIMITS = Limits(50_000_000)  # the default of RCNN_MAX_PIXELS
OURS = frozenset({*FORMATS, "MPO", "DIB"})  # names of Pillow for what is read here


def format_of(data: bytes) -> str | None:
    """The format in which Pillow decodes the data; None if it does not."""
    try:
        with pillow.open(BytesIO(data)) as picture:
            picture.load()
            return picture.format
    except Exception:  # noqa: BLE001 - whatever Pillow raises on its own hostile files
        return None


def refusal_of(data: bytes) -> str | None:
    """Why the data is refused; None if it is decoded. Raises what a fault raises."""
    try:
        decode(data, LIMITS)
    except ImageError as error:
        return str(error)
    return None


def main(folder: Path) -> int:
    """Print the figures; the exit code."""
    files, expected, refused, faults = 0, 0, [], []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data, files = path.read_bytes(), files + 1
        format = format_of(data)
        try:
            refusal = refusal_of(data)
        except Exception as error:  # noqa: BLE001 - a fault is reported, and the next file read
            faults.append(f"{path.name}: {error!r}")
            continue
        expected += format in OURS
        if format in OURS and refusal:
            refused.append(f"{path.name} ({format}): {refusal}")
    read = expected - len(refused)
    print(
        f"{files} files; Pillow decodes {expected} in our formats, {read} of which are read "
        f"({read / max(1, expected):.1%}); {len(faults)} faults"
    )
    print(*refused, *faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    sys.exit(main(parser.parse_args().folder))

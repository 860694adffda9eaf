"""What the decoder makes of the matrix, beside OpenCV and libvips; the table of docs/images.md.

`python -m tests.support.data.matrix_table` writes the table again.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from models.images.decoder import ImageError, Limits, decode
from tests.house.doc_tables import DOCS, with_table
from tests.support.data.image_matrix import Cell, cells
from tests.support.data.reference_decoders import REFERENCES

LEVELS = 2  # by which two decoders may differ
LIMITS = Limits(100_000)


class Outcome(NamedTuple):
    """A cell, which other decoders show the same within LEVELS, and the reason if we refuse it."""

    cell: Cell
    equal: tuple[str, ...]
    reason: str = ""

    @property
    def is_right(self) -> bool:
        return bool(self.equal) != bool(self.reason)


def outcomes() -> Iterator[Outcome]:
    for cell in cells():
        data = cell.make()
        try:
            pixels = decode(data, LIMITS).pixels
        except ImageError as error:
            yield Outcome(cell, (), str(error))
            continue
        files, opaque = (data, *([cell.twin()] if cell.twin else [])), "another" in cell.colours
        equal = (
            name for name, read in REFERENCES.items() if any(same(pixels, read(f, opaque)) for f in files)
        )
        yield Outcome(cell, tuple(equal))


def same(pixels: np.ndarray, reference: np.ndarray | None) -> bool:
    if reference is None or reference.shape != pixels.shape:
        return False
    return bool((np.abs(pixels - reference) <= LEVELS).all())


def matrix_markdown(found: list[Outcome]) -> str:
    """A row for each format and colours: what is equal to another decoder, and what is refused."""
    lines = ["| Format | Colours | Equal | Stored as | Refused |", "| --- | --- | --- | --- | --- |"]
    for format, colours in dict.fromkeys((each.cell.format, each.cell.colours) for each in found):
        row = [each for each in found if (each.cell.format, each.cell.colours) == (format, colours)]
        right = [each.cell for each in row if not each.reason]
        stored = listed(_short(cell.stored) for cell in right)
        refused: dict[str, list[str]] = {}
        for each in row:
            if each.reason:
                refused.setdefault(each.reason.split(";")[0].removeprefix("the image has "), []).append(
                    each.cell.numbers
                )
        reasons = "; ".join(f"{listed(numbers)}: {reason}" for reason, numbers in refused.items())
        lines.append(
            f"| {format} | {colours} | {listed(cell.numbers for cell in right)} | {stored} | {reasons} |"
        )
    return "\n".join(lines)


def _short(stored: str) -> str:
    return "EXIF 1 to 8" if stored.startswith("EXIF") else stored


def listed(texts: Iterator[str] | list[str]) -> str:
    return ", ".join(dict.fromkeys(texts)) or "none"


if __name__ == "__main__":
    page = DOCS / "images.md"
    page.write_text(with_table(page.read_text(), "matrix", matrix_markdown(list(outcomes()))))

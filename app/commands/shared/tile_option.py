"""What `--tile` and `--tile-overlap` say, for every command that has them."""

from app.commands import USAGE, CommandFailed
from models.tiling.tiles import LARGEST_SIDE, OVERLAP, SMALLEST_SIDE, Tiling

Tile = int | str | None
"""A tile's side in px of the image, "auto", or None for none."""


def read_tile(text: str | None) -> Tile:
    """What --tile says; raises CommandFailed."""
    if text is None or text == "auto":
        return text
    if text.isascii() and text.isdigit() and SMALLEST_SIDE <= int(text[:9]) <= LARGEST_SIDE:
        return int(text)
    raise CommandFailed(
        f"--tile {text}: it must be auto or a whole number from {SMALLEST_SIDE} to {LARGEST_SIDE}", USAGE
    )


def tiling_of(tile: int | str, overlap: float | None = None) -> Tiling:
    """The tiling that a tile's side, or "auto", asks for."""
    return Tiling(None if tile == "auto" else int(tile), OVERLAP if overlap is None else overlap)

"""What the readers of every format share: the error of a bad structure, and a size."""

Size = tuple[int, int]  # width, height in pixels


class HeaderError(ValueError):
    """An image whose structure is broken or excessive; the text completes "the image has …"."""

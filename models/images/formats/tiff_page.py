"""Which page of a TIFF is its picture: the first of full size, not the thumbnail in front of it.

A camera's raw file (DNG) begins with a thumbnail whose tag SubIFDs names the picture; a scanner or a map may
have its thumbnail as a page of the chain. NewSubfileType says which pages are reduced, or masks.
"""

from collections.abc import Iterator

from models.images.formats import tiff
from models.images.formats.errors import HeaderError, Size
from models.images.formats.tiff import Page, beginning_with, read_page

_NOT_READ = b"MM\0+"  # Pillow takes it for another TIFF
MAX_PAGES = 64  # that are looked at
_NEW_SUBFILE, _SUBFILE, _WIDTH, _HEIGHT, _PHOTOMETRIC, _CHILDREN = 254, 255, 256, 257, 262, 330
_REDUCED_OR_MASK = 0b101  # bits of NewSubfileType
_OLD_REDUCED = 2  # a value of SubfileType
_SHOWN = frozenset(range(11)) - {4}  # photometric interpretations: no mask, and no data of a sensor


def cleaned(data: bytes) -> tuple[bytes, tuple[Size, ...]]:
    """The file, whose header names the page of its picture as the first; bounded. Raises HeaderError."""
    if data.startswith(_NOT_READ):
        raise HeaderError("the structure of a big-endian BigTIFF, which is not supported")
    first = read_page(data)
    picture = _picture(data, first) if _is_reduced(first) else first
    return tiff.cleaned(data if picture is first else beginning_with(data, picture.start))


def _picture(data: bytes, first: Page) -> Page:
    """The first page that is not reduced; else the largest that can be shown."""
    largest = first
    for page in _others(data, first):
        if _number(page, _PHOTOMETRIC) in _SHOWN:
            if not _is_reduced(page):
                return page
            largest = max(largest, page, key=_pixels)
    return largest


def _others(data: bytes, first: Page) -> Iterator[Page]:
    """The pages that SubIFDs of the first one names, and those that follow in the chain."""
    seen, pending = {0, first.start}, [*first.numbers.get(_CHILDREN, ()), first.next]
    while pending and len(seen) < MAX_PAGES:
        start = pending.pop(0)
        if start in seen:
            continue
        seen.add(start)
        try:
            page = read_page(data, start)
        except HeaderError:
            continue
        yield page
        pending.append(page.next)


def _number(page: Page, tag: int) -> int:
    return next(iter(page.numbers.get(tag, ())), 0)


def _is_reduced(page: Page) -> bool:
    return bool(_number(page, _NEW_SUBFILE) & _REDUCED_OR_MASK) or _number(page, _SUBFILE) == _OLD_REDUCED


def _pixels(page: Page) -> int:
    return _number(page, _WIDTH) * _number(page, _HEIGHT)

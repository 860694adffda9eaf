"""Pixels as numbers in JSON: read in pieces into one byte each; a list of them would take 30 bytes each."""

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic_core import from_json

from app.schemas.limits import MAX_TENSOR_RANK

PIECE_BYTES = 64 * 1024  # parsed in one step: other threads may run between two of them

_DATA = re.compile(rb'"data"\s*+:\s*+(\[[-+.eE\d,\[\]\s]*+)')
_OUTSIDE = re.compile(rb"\d\s*+\[|\]\s*+\d")  # a number beside a list, without a comma


def cut_numbers(text: bytes) -> tuple[bytes, bytes | None]:
    """The JSON with [] for its first `data` of nothing but numbers, and that data; None where none is."""
    for match in _DATA.finditer(text):
        start, end = match.start(1), text.rfind(b"]", *match.span(1)) + 1
        if end and text.count(b"[", start, end) == text.count(b"]", start, end):
            return text[:start] + b"[]" + text[end:], text[start:end]
    return text, None


def read_numbers(text: bytes) -> npt.NDArray[np.uint8]:
    """A JSON list of whole numbers from 0 to 255, flat or nested regularly, as a row; raises ValueError."""
    pieces = [(_values(piece), piece.translate(None, b"0123456789 \t\r\n")) for piece in _pieces(text)]
    row = np.concatenate([values for values, _ in pieces])
    if row.size and math.prod(_lengths(b",".join(lists for _, lists in pieces))) != row.size:
        raise ValueError("lists of different lengths")
    return row


def whole_numbers(values: Any) -> npt.NDArray[np.uint8]:
    """Numbers, flat or nested, as an array of bytes; raises ValueError for any but 0 to 255."""
    numbers = np.asarray(values)
    if numbers.size and (numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() > 255):
        raise ValueError("not whole numbers from 0 to 255")
    return numbers.astype(np.uint8, copy=False)


def _pieces(text: bytes) -> Iterator[bytes]:
    """The text, cut at commas."""
    start = 0
    while start < len(text):
        end = text.find(b",", start + PIECE_BYTES)
        end = len(text) if end < 0 else end
        if end - start > 2 * PIECE_BYTES:
            raise ValueError("no comma for long")
        yield text[start:end]
        start = end + 1


def _values(piece: bytes) -> npt.NDArray[np.uint8]:
    if _OUTSIDE.search(piece):
        raise ValueError("a comma is missing")
    return whole_numbers(from_json(b"[" + piece.translate(None, b"[]") + b"]"))


def _lengths(lists: bytes) -> list[int]:
    """Lengths of nested lists, from the innermost to the outermost; `lists` are their brackets and commas."""
    lengths: list[int] = []
    while lists and len(lengths) < MAX_TENSOR_RANK:
        end = lists.find(b"]") + 1
        inner = lists[max(0, lists.rfind(b"[", 0, end)) : end]
        lengths.append(len(inner) - 1)
        lists = lists.replace(inner, b"")
    if lists:
        raise ValueError("lists of different lengths")
    return lengths

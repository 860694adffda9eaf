"""Mutations of valid inputs by bytes and by the units of their grammar; Hypothesis draws and shrinks them."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.units import join, split

MAX_BYTES = 64 * 1024  # of an input: small enough that work beyond CPU_SECONDS is a fault
MAX_EDITS = 4
MOST_REPEATS = 3000
VALUES = (
    b"\0",
    b"\xff",
    b"\x80",
    b"\x7f",
    b"\0\0",
    b"\xff\xff",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
)

# Values of JSON that parsers stumble over.
ODD_JSON: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**31, 2**63, 2**64, 10**400, 1e308, -0.0, float("nan"), float("inf")),
    *("", "\0", "\ud800", "\u202e", "a" * 300, "1e999", [], {}, [[]], {"": {}}, [0] * 2000, ["x"] * 2000),
)

Draw = Callable[[st.SearchStrategy[Any]], Any]


@st.composite
def mutated(draw: Draw, corpus: Sequence[bytes]) -> bytes:
    """An input of the corpus with some edits, at most MAX_BYTES."""
    data = draw(st.sampled_from(corpus))
    edits = JSON_EDITS if data.startswith(b"{") else EDITS
    for edit in draw(st.lists(st.sampled_from(edits), max_size=MAX_EDITS)):
        data = edit(draw, data, corpus)[:MAX_BYTES]
    return bytes(data)


def _overwrite(draw: Draw, data: bytes, corpus: Sequence[bytes]) -> bytes:
    value = draw(st.sampled_from(VALUES) | st.binary(min_size=1, max_size=4))
    place = _place(draw, data)
    return data[:place] + value + data[place + len(value) :]


def _insert(draw: Draw, data: bytes, corpus: Sequence[bytes]) -> bytes:
    place = _place(draw, data)
    return data[:place] + draw(st.sampled_from(VALUES) | st.binary(max_size=16)) + data[place:]


def _delete(draw: Draw, data: bytes, corpus: Sequence[bytes]) -> bytes:
    place = _place(draw, data)
    return data[:place] + data[place + draw(st.integers(1, 64)) :]


def _cut_off(draw: Draw, data: bytes, corpus: Sequence[bytes]) -> bytes:
    return data[: _place(draw, data)]


def _splice(draw: Draw, data: bytes, corpus: Sequence[bytes]) -> bytes:
    other = draw(st.sampled_from(corpus))
    return data[: _place(draw, data)] + other[_place(draw, other) :]


def _drop_unit(draw: Draw, data: bytes, corpus: Sequence[bytes]) -> bytes:
    units = split(data)
    place = _place(draw, units)
    return join([*units[:place], *units[place + 1 :]])


def _repeat_unit(draw: Draw, data: bytes, corpus: Sequence[bytes]) -> bytes:
    units = split(data)
    place = _place(draw, units)
    times = draw(st.integers(2, 8) | st.just(MOST_REPEATS))
    return join([*units[:place], *(units[place : place + 1] * times), *units[place + 1 :]])


def _move_unit(draw: Draw, data: bytes, corpus: Sequence[bytes]) -> bytes:
    units = split(data)
    if units:
        units.insert(_place(draw, units), units.pop(_place(draw, units[1:])))
    return join(units)


def _take_unit(draw: Draw, data: bytes, corpus: Sequence[bytes]) -> bytes:
    units, others = split(data), split(draw(st.sampled_from(corpus)))
    units[(place := _place(draw, units)) : place] = others[(first := _place(draw, others)) : first + 1]
    return join(units)


def _edit_unit(draw: Draw, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Edits inside a unit, whose checksum is made right again."""
    units = split(data)
    if units:
        place = _place(draw, units[1:])
        units[place] = _overwrite(draw, units[place], corpus)
    return join(units)


def _edit_json(draw: Draw, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Replaces a value of a JSON document, or adds a key."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return data
    paths = list(_paths(document))
    value = draw(st.sampled_from(ODD_JSON))
    changed = _replaced(document, draw(st.sampled_from(paths)), value)
    return json.dumps(changed).encode()


def _nest_json(draw: Draw, data: bytes, corpus: Sequence[bytes]) -> bytes:
    depth = draw(st.integers(1, 5) | st.just(2000))
    return b"[" * depth + data + b"]" * depth


def _place(draw: Draw, sequence: Sequence[Any]) -> int:
    """An index, often near the start, where headers are."""
    last = len(sequence)
    return int(draw(st.integers(0, min(last, 64)) | st.integers(0, last)))


def _paths(value: Any, path: tuple[Any, ...] = ()) -> "list[tuple[Any, ...]]":
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, one in list(pairs)[:20] for found in _paths(one, (*path, key)))]


def _replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copied = document.copy()
    copied[path[0]] = _replaced(document[path[0]], path[1:], value)
    return copied


EDITS = (
    *(_overwrite, _insert, _delete, _cut_off, _splice),
    *(_drop_unit, _repeat_unit, _move_unit, _take_unit, _edit_unit),
)
JSON_EDITS = (*EDITS, *[_edit_json] * len(EDITS), _nest_json)

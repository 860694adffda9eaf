"""The cost of a file in CPU time is bounded, whatever unit of its format's grammar it consists of."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from models.images.decoder import ImageError, Limits, decode
from models.images.video.frames import read_frames
from tests.support.data.image_units import UNITS

LIMITS = Limits(50_000_000)
MEGABYTE = 1_000_000
MAX_CALLS = 2_000_000  # a walk byte by byte through 2 MB makes six million
# Of CPU; measured: at most 1, and 5.4 with branch coverage, which counts each step of a loop. The faults that
# were found here took 15 and more.
MAX_SECONDS = 10.0
WALKED_IN_PYTHON = [name for name in UNITS if not name.endswith(("scan", "scans", "behind", "data"))]


class TooManyCalls(BaseException):
    """A decoder makes more calls than it may."""


@contextmanager
def bounded_calls(limit: int) -> Iterator[None]:
    """Raise TooManyCalls after so many calls of functions, in Python and of C."""
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")
        if calls > limit:
            sys.setprofile(None)
            raise TooManyCalls

    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)


def read(data: bytes, frames: bool = False) -> None:
    """Decode the file, or the first two frames of it; it may be refused."""
    try:
        if frames:
            found = read_frames(data, LIMITS)
            next(found)
            next(found, None)
        else:
            decode(data, LIMITS)
    except ImageError:
        pass


@pytest.mark.parametrize("name", WALKED_IN_PYTHON)
def test_a_file_of_one_unit_takes_a_bounded_number_of_calls(name: str) -> None:
    data = UNITS[name](2 * MEGABYTE)
    with bounded_calls(MAX_CALLS):
        read(data)


@pytest.mark.slow
@pytest.mark.parametrize("name", UNITS)
def test_20_megabytes_of_one_unit_take_little_cpu_time(name: str) -> None:
    """CPU time, not wall time: what libjpeg, libwebp, libavif and libtiff do has no other measure."""
    data = UNITS[name](20 * MEGABYTE)
    for frames in (False, True):
        started = time.process_time()
        read(data, frames)
        assert time.process_time() - started < MAX_SECONDS

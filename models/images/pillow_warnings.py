"""Warnings of odd metadata and damage, which say nothing to the operator of a service."""

import ctypes
import re
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock

import PIL

_IGNORED = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_lock = Lock()


def silence_pillow_warnings() -> None:
    """Ignore Pillow's warnings permanently: a temporary filter is not thread-safe."""
    if _IGNORED not in warnings.filters:
        with _lock:
            warnings.filterwarnings("ignore", module=r"PIL\.")


@cache
def silence_libtiff() -> None:
    """Let libtiff print nothing: it prints a line of text for each damaged line of a fax.

    The library in Pillow's own files is the one that Pillow uses; where there is none, it stays as it is.
    """
    folder = Path(PIL.__file__).parent
    for path in (*folder.parent.glob("pillow.libs/libtiff*"), *folder.glob(".dylibs/libtiff*")):
        with suppress(OSError, AttributeError):
            ctypes.CDLL(str(path)).TIFFSetErrorHandler(None)

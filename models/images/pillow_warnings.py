"""Pillow's warnings of odd metadata, which say nothing to the operator of a service."""

import re
import warnings
from threading import Lock

_IGNORED = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_lock = Lock()


def silence_pillow_warnings() -> None:
    """Ignore Pillow's warnings permanently: a temporary filter is not thread-safe."""
    if _IGNORED not in warnings.filters:
        with _lock:
            warnings.filterwarnings("ignore", module=r"PIL\.")

"""Full float32 on a GPU: by default cuDNN's convolutions use a 10-bit mantissa (TF32).

torch's switches are global to the process, so TF32 is off as long as any thread is in `full_float32`, and the
last one restores what was set before. New versions of torch have a switch for each operation; they raise an
error if an old one is read after a new one was set.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_lock = threading.Lock()
_threads = 0  # in `full_float32`
_before: list[Any] = []


@contextmanager
def full_float32() -> Iterator[None]:
    """No TF32 in convolutions and matrix products, in any thread."""
    global _threads
    with _lock:
        if _threads == 0:
            _before[:] = _set([_off(name) for _, name in _switches()])
        _threads += 1
    try:
        yield
    finally:
        with _lock:
            _threads -= 1
            if _threads == 0:
                _set(_before)


def _switches() -> list[tuple[Any, str]]:
    """The attributes of torch that allow TF32."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    if hasattr(cudnn, "conv"):
        return [(cudnn.conv, "fp32_precision"), (matmul, "fp32_precision")]
    return [(cudnn, "allow_tf32"), (matmul, "allow_tf32")]


def _off(name: str) -> object:
    return "ieee" if name == "fp32_precision" else False


def _set(values: list[Any]) -> list[Any]:
    """Set all switches; the values they had."""
    switches = _switches()
    before = [getattr(owner, name) for owner, name in switches]
    for (owner, name), value in zip(switches, values, strict=True):
        setattr(owner, name, value)
    return before

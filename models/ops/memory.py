"""Recognises every kind of out-of-memory error: libraries raise RuntimeError with a text of their own."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Parts of the messages in lower case, as the libraries write them.
TEXTS = (
    "out of memory",  # of CUDA's runtime ("CUDA error: out of memory"), torch's and the driver's
    "not enough memory",  # torch on the CPU
    "can't allocate memory",  # the same, older
    "cudaerrormemoryallocation",
    "_alloc_failed",  # CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED, CUSOLVER_…, CUSPARSE_…
    "_allocation_failed",  # CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED, …_HOST_ALLOCATION_FAILED
    "bad_alloc",  # OpenVINO and oneDNN pass on C++'s std::bad_alloc
    "failed to allocate",
    "could not allocate",
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is a lack of memory on the host or on a device."""
    if error is None:
        return False
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower() if isinstance(error, RuntimeError) else ""
    return any(part in text for part in TEXTS) or is_out_of_memory(error.__cause__)


@contextmanager
def out_of_memory_as(message: str) -> Iterator[None]:
    """Raise MemoryError with that message for any kind of out-of-memory error in the `with` block."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise MemoryError(message) from error
        raise

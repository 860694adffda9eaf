"""Memory that freed networks leave behind in pools, given back."""

import ctypes
import sys

import torch


def give_memory_back() -> None:
    """Empty torch's pool on CUDA, and return the free pages of glibc's heap: it keeps them otherwise."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # musl has none
        libc.malloc_trim(0)

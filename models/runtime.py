"""Process-wide care for torch: a quick import of torchvision, and returning free memory.

`torchvision.ops.roi_align` imports `torch._dynamo` to ask whether a device supports compilation. That brings
in the tracer, sympy and triton: 1.2 s of the start and 150 MB, though serving never compiles. Here a stub
stands in during the import; the real compiler is imported on first use, so `torch.compile` works.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

COMPILER = "torch._dynamo"
COMPILER_UTILS = f"{COMPILER}.utils"


def import_torchvision() -> None:
    """Import torchvision's detection models without the compiler, unless the compiler is imported already."""
    with _deferred_compiler():
        import torchvision.models.detection  # noqa: F401 - the import itself is the purpose


@contextmanager
def _deferred_compiler() -> Iterator[None]:
    if COMPILER in sys.modules:
        yield
        return
    package, utils = ModuleType(COMPILER), _CompilerUtils(COMPILER_UTILS)
    package.__path__ = []
    stubs = {COMPILER: package, COMPILER_UTILS: utils}
    sys.modules.update(stubs)
    try:
        yield
    finally:
        _remove(stubs)


def _remove(stubs: dict[str, ModuleType]) -> None:
    for name, module in stubs.items():
        if sys.modules.get(name) is module:
            del sys.modules[name]


class _CompilerUtils(ModuleType):
    """A stub of `torch._dynamo.utils`; any name but `is_compile_supported` imports the real module."""

    @staticmethod
    def is_compile_supported(*arguments: Any) -> Any:
        return import_module(COMPILER_UTILS).is_compile_supported(*arguments)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _remove({COMPILER: sys.modules[COMPILER], COMPILER_UTILS: self})
        return getattr(import_module(COMPILER_UTILS), name)


def give_memory_back() -> None:
    """Empty torch's CUDA cache, and return free pages of glibc's heap, which it would otherwise keep."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # musl has none
        libc.malloc_trim(0)

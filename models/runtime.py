"""Imports torchvision without torch's compiler, which nothing here uses while serving.

`torchvision.ops.roi_align` asks `torch._dynamo` at import whether it may compile, and that brings in the
tracer, sympy and triton: 1.2 s of the start and 150 MB, for a question that is put on few devices only. Until
it is put a stand-in answers the import; the compiler loads as ever when it is wanted (`torch.compile` works).
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
QUESTIONS = f"{COMPILER}.utils"


def import_torchvision() -> None:
    """Import torchvision's detection models; the same as ever where the compiler is there already."""
    import torch  # noqa: F401 - torch itself must find the real compiler

    with _compiler_put_off():
        import torchvision.models.detection  # noqa: F401 - what comes with it is the aim


@contextmanager
def _compiler_put_off() -> Iterator[None]:
    if COMPILER in sys.modules:
        yield
        return
    package, questions = ModuleType(COMPILER), _Questions(QUESTIONS)
    package.__path__ = []
    stand_ins = {COMPILER: package, QUESTIONS: questions}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        _remove(stand_ins)


def _remove(stand_ins: dict[str, ModuleType]) -> None:
    for name, module in stand_ins.items():
        if sys.modules.get(name) is module:
            del sys.modules[name]


class _Questions(ModuleType):
    """Stands in for `torch._dynamo.utils`; any name but the one known question brings in the real one."""

    @staticmethod
    def is_compile_supported(*arguments: Any) -> Any:
        return import_module(QUESTIONS).is_compile_supported(*arguments)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _remove({COMPILER: sys.modules[COMPILER], QUESTIONS: self})
        return getattr(import_module(QUESTIONS), name)


def give_memory_back() -> None:
    """Empty torch's pool on CUDA, and return the free pages of glibc's heap: it keeps them otherwise."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # musl has none
        libc.malloc_trim(0)

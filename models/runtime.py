"""Process-wide care for torch: a quick import of torchvision, and returning free memory.

`torchvision.ops.roi_align` imports `torch._dynamo` to ask whether a device supports compilation. That brings
in the tracer, sympy and triton: 1.2 s of the start and 150 MB, though serving never compiles. Here a stub
stands in during the import; the real compiler is imported on first use, so `torch.compile` works.
"""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

COMPILER = "torch._dynamo"
MAPS = Path("/proc/self/maps")
WEIGHTS = ("/dense.bin", "/head.bin")
MADV_PAGEOUT = 21
"""Of Linux 5.4: give the pages of a file back. Unlike MADV_DONTNEED it loses nothing where another thread has
put other memory at these addresses meanwhile."""
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


def torch_build() -> str:
    """The version of torch, and what it was built for."""
    built = "for the CPU" if torch.version.cuda is None else f"with CUDA {torch.version.cuda}"
    return f"{torch.__version__}, {built}"


def give_memory_back() -> None:
    """Return what nothing needs: torch's CUDA cache, free pages of glibc's heap, pages of mapped weights."""
    gc.collect()  # a network that an engine has copied may be in a cycle
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # musl has none
        libc.malloc_trim(0)
        for start, end in _mapped_weights():
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_PAGEOUT)


def _mapped_weights() -> Iterator[tuple[int, int]]:
    """The addresses of OpenVINO's weights files: it has packed copies, and reads other pages again."""
    for line in MAPS.read_text().splitlines() if MAPS.exists() else ():
        addresses, access, *_, path = line.split(maxsplit=5)
        if access.startswith("r-") and path.strip().endswith(WEIGHTS):
            start, end = addresses.split("-")
            yield int(start, 16), int(end, 16)


MEMINFO, STATM = Path("/proc/meminfo"), Path("/proc/self/statm")
CGROUP = Path("/sys/fs/cgroup")
CGROUP_FILES = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def used_bytes(device: str) -> int:
    """Bytes that torch has allocated on a GPU; on the CPU those of this process in memory, 0 if not known."""
    if (gpu := _gpu(device)) is not None:
        return torch.cuda.memory_allocated(gpu)
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if STATM.exists() else 0


def free_bytes(device: str, share: float = 1.0) -> int | None:
    """Bytes that this process could still take; None where that is not known.

    On a GPU what is free of its `share`, else what the system and the container's limit have left.
    """
    if (gpu := _gpu(device)) is not None:
        free, total = torch.cuda.mem_get_info(gpu)
        own = torch.cuda.memory_reserved(gpu)
        return max(0, min(free, round(share * total) - own))
    left = [limit - used for limit, used in map(_of_container, CGROUP_FILES) if limit]
    if MEMINFO.exists():
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        left.append(int(lines["MemAvailable"].split()[0]) * 1024)
    return max(0, min(left)) if left else None


def _gpu(device: str) -> torch.device | None:
    """The GPU of that name; `auto` is the first one, if there is one."""
    if device == "auto":
        return torch.device("cuda:0") if torch.cuda.is_available() else None
    return torch.device(device) if device.startswith("cuda") else None


def _of_container(names: tuple[str, str]) -> tuple[int, int]:
    """The limit of this container's memory and what it uses, without the files that it caches; 0 for none."""
    limit, used = (CGROUP / name for name in names)
    try:
        stat = dict(line.split() for line in (used.parent / "memory.stat").read_text().splitlines())
        cached = int(stat.get("inactive_file", 0))
        return int(limit.read_text()), max(0, int(used.read_text()) - cached)
    except (OSError, ValueError):  # no container, or no limit: "max"
        return 0, 0

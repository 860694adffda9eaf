"""What the times of a network depend on besides itself: CPU, cores, threads and OpenVINO's version."""

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CPUINFO, CPU_LIMIT = Path("/proc/cpuinfo"), Path("/sys/fs/cgroup/cpu.max")
# Lines of a processor that are the same at each start, unlike its frequency.
STEADY = ("vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags", "Features")
DIGITS = 16


def machine_key(threads: int) -> str:
    """Differs on a machine that may be faster or slower in one precision than in another."""
    parts = [*_processor(), _limit(), str(_cores()), str(threads), _openvino()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:DIGITS]


def machine_name() -> str:
    """The processor's name and the number of cores, for a record."""
    names = [line.partition(":")[2].strip() for line in _processor() if line.startswith("model name")]
    return f"{next(iter(names), platform.machine())}, {_cores()} cores"


def _processor() -> list[str]:
    """The first processor's lines; elsewhere than on Linux its name."""
    if not CPUINFO.exists():
        return [platform.machine(), platform.processor()]
    first = CPUINFO.read_text(errors="replace").split("\n\n", 1)[0].splitlines()
    return [line for line in first if line.partition(":")[0].strip() in STEADY]


def _limit() -> str:
    """The container's share of the processors."""
    return CPU_LIMIT.read_text() if CPU_LIMIT.exists() else ""


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _openvino() -> str:
    try:
        return version("openvino")
    except PackageNotFoundError:
        return ""

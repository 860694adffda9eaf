"""What results belong to: the machine, the versions and the date."""

import os
import platform
import re
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("rcnn-serve", "torch", "torchvision", "openvino", "fastapi", "uvicorn")

Machine = dict[str, str | int]


def describe_machine() -> Machine:
    """CPU, cores, Python, versions of the packages that matter, and the date."""
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "date": date.today().isoformat(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: text for name, text in versions.items() if text},
    }


def title(machine: Machine) -> str:
    """The machine in one line, for the title of a table."""
    return f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, {machine['date']}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*:\s*(.+)", path.read_text()) if path.exists() else None
    return match[1] if match else platform.machine()

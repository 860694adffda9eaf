"""What figures belong to: the machine, the versions and the date."""

import os
import platform
import re
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("rcnn-serve", "torch", "torchvision", "openvino", "fastapi", "uvicorn")


def describe_machine() -> dict[str, str | int]:
    """CPU, cores, Python, versions of what matters here, and the date: for the JSON files."""
    found = {name: _version(name) for name in PACKAGES}
    return {
        "date": date.today().isoformat(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: text for name, text in found.items() if text},
    }


def title(machine: dict[str, str | int]) -> str:
    """One line of it, for a table."""
    return f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, {machine['date']}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", path.read_text()) if path.exists() else None
    return found[1] if found else platform.machine()

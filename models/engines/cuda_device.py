"""Whether this torch can use a GPU that the machine has: its driver and its compute capability."""

from pathlib import Path

import torch

DRIVERS = {"13": 580, "12": 525}  # the oldest NVIDIA driver of each major version of CUDA
DEVICE_FILE = Path("/dev/nvidia0")


def gpu_exists() -> bool:
    """Whether the machine has an NVIDIA GPU, usable or not: NVML counts those that CUDA cannot start too."""
    return torch.cuda.device_count() > 0 or DEVICE_FILE.exists()


def why_unusable(device: torch.device) -> str | None:
    """Why torch cannot compute on a GPU, and what to install; None if it can."""
    try:
        capability = torch.cuda.get_device_capability(device)  # starts CUDA, which needs a recent driver
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return f"CUDA does not start ({reason}); {_needed()}"
    compiled = [int(name.removeprefix("sm_")) for name in torch.cuda.get_arch_list() if name[3:].isdigit()]
    if compiled and capability < divmod(min(compiled), 10):
        return f"its compute capability is {'.'.join(map(str, capability))}; {_needed(min(compiled))}"
    return None


def _needed(oldest: int | None = None) -> str:
    """What this torch needs."""
    cuda = torch.version.cuda or ""
    if oldest is not None:
        needed = f"a GPU of capability {oldest // 10}.{oldest % 10} or newer"
    else:
        driver = DRIVERS.get(cuda.partition(".")[0])
        needed = f"an NVIDIA driver of {driver} or newer" if driver else "an NVIDIA driver"
    return f"torch {torch.__version__} needs {needed}, or install a torch that was built for an older CUDA"

"""Whether this torch can use a GPU that the machine has: its driver and its compute capability."""

import re
from pathlib import Path

import torch

DRIVERS = {"13": 580, "12": 525}  # the oldest NVIDIA driver of each major version of CUDA
DEVICE_FILE = Path("/dev/nvidia0")
DRIVER_FILE = Path("/proc/driver/nvidia/version")  # a container without a GPU sees its host's


def cpu_reason() -> str | None:
    """Why the CPU has to serve although there is a GPU or a driver; None if the GPU can, or none is there."""
    usable = torch.cuda.is_available()
    exists = torch.cuda.device_count() > 0 or DEVICE_FILE.exists()  # NVML counts unusable ones too
    if not (usable or exists or DRIVER_FILE.exists()):
        return None
    if not (usable or exists):
        return "there is an NVIDIA driver, but this process sees no GPU; give it one (docker run --gpus all)"
    return why_unusable(torch.device("cuda:0"))


def set_memory_share(device: torch.device, share: float) -> None:
    """Limit what this process may allocate to a share of the GPU's memory, (0, 1]; no limit on the CPU."""
    if device.type == "cuda" and share < 1:
        torch.cuda.set_per_process_memory_fraction(share, device)


def left_memory(device: torch.device, share: float) -> tuple[int, int]:
    """Bytes that this process may still allocate on the GPU, and may allocate in all."""
    torch.cuda.empty_cache()  # what is cached would count as used; recording a graph empties it too
    free, total = torch.cuda.mem_get_info(device)
    allowed = int(share * total)
    return min(free, allowed - torch.cuda.memory_reserved(device)), allowed


def memory_bytes(device: torch.device, graphs: int) -> dict[str, int]:
    """A GPU's memory by kind: of this process's tensors, held by torch, taken by graphs; empty on the CPU."""
    if device.type != "cuda":
        return {}
    allocated, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    return {"allocated": allocated, "reserved": reserved, "graphs": graphs}


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


def describe_gpu(device: torch.device) -> str:
    """Its name and memory, and the driver."""
    about = torch.cuda.get_device_properties(device)
    driver = "unknown"
    if DRIVER_FILE.exists() and (found := re.search(r"\d+\.\d+(\.\d+)?", DRIVER_FILE.read_text())):
        driver = found[0]
    return f"{about.name}, {about.total_memory / 2**30:.0f} GB, driver {driver}"


def _needed(oldest: int | None = None) -> str:
    """What this torch needs."""
    cuda = torch.version.cuda or ""
    if oldest is not None:
        needed = f"a GPU of capability {oldest // 10}.{oldest % 10} or newer"
    else:
        driver = DRIVERS.get(cuda.partition(".")[0])
        needed = f"an NVIDIA driver of {driver} or newer" if driver else "an NVIDIA driver"
    return f"torch {torch.__version__} needs {needed}, or install a torch that was built for an older CUDA"

"""Time, launches, waits and memory of a function that runs one batch on a device, its answers included."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

Run = Callable[[], object]

# Calls of CUDA's runtime and driver, as the profiler names them.
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


def is_cuda(device: str) -> bool:
    """Whether the device computes asynchronously and has memory of its own."""
    return device.startswith("cuda")


def synchronize(device: str) -> None:
    """Wait for a CUDA device; on the CPU nothing is outstanding."""
    if is_cuda(device):
        torch.cuda.synchronize(device)


def seconds_per_batch(run: Run, device: str, seconds: float, _: int = 0) -> float:
    """Batches back to back for some seconds, so that the clocks do not drop; no wait between them."""
    synchronize(device)
    started, count = time.perf_counter(), 0
    while not count or time.perf_counter() - started < seconds:
        run()
        count += 1
    synchronize(device)
    return (time.perf_counter() - started) / count


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types for it
    """Tells `observe` each operation of torch that is no view: the function, its arguments, its result."""

    def __init__(self, observe: Callable[[Any, Sequence[Any], Any], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types for it
        self._observe = observe

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> object:
        result = function(*args, **(kwargs or {}))
        returns = function._schema.returns
        if not any(one.alias_info is not None and not one.alias_info.is_write for one in returns):
            self._observe(function, args, result)
        return result


def count_operations(run: Run) -> int:
    """Operations of one batch that are no views: each is a launch or more, unless a graph replays it."""
    names: list[str] = []
    with Operations(lambda function, args, result: names.append(str(function))):
        run()
    return len(names)


def count_calls(names: Iterable[str]) -> tuple[int, int]:
    """Launches and waits among the names of a profile's events."""
    counts = Counter(names)

    def total(prefixes: tuple[str, ...]) -> int:
        return sum(count for name, count in counts.items() if name.startswith(prefixes))

    return total(LAUNCHES), total(WAITS)


def profile_calls(run: Run, device: str) -> dict[str, int]:
    """Launches and waits of one batch on a CUDA device; empty on the CPU."""
    if not is_cuda(device):
        return {}
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        run()
    launches, waits = count_calls(event.name for event in profiled.events() or ())
    return {"launches": launches, "waits": waits}


def peak_memory(run: Run, device: str) -> dict[str, float]:
    """MiB that torch holds at most during a batch, with all that is loaded; empty on the CPU."""
    if not is_cuda(device):
        return {}
    torch.cuda.reset_peak_memory_stats(device)
    run()
    return {"mebibytes": torch.cuda.max_memory_allocated(device) / 2**20}

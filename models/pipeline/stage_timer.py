"""Measures the duration of each stage of a batch on its device."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

Observe = Callable[[str, float], None]
TimeStage = Callable[[str], AbstractContextManager[None]]


class StageTimer:
    """Times the stages of one batch and reports them at its end, in order, in seconds.

    CUDA kernels run asynchronously. There events are recorded in the stream and read when the batch is done:
    waiting after each stage would leave the device idle while the next one is launched.
    """

    def __init__(self, device: torch.device, observe: Observe) -> None:
        self._stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
        self._observe = observe
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time the `with` block as a stage."""
        if self._stream is None:
            started = time.perf_counter()
            yield
            self._observe(name, time.perf_counter() - started)
            return
        began, ended = (_timing_event() for _ in range(2))
        began.record(self._stream)
        yield
        ended.record(self._stream)
        self._events.append((name, began, ended))

    def finish(self) -> None:
        """Wait for the device and report the stages."""
        for name, began, ended in self._events:
            ended.synchronize()
            self._observe(name, began.elapsed_time(ended) / 1000)


def _timing_event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch has no types for it


def ignore(stage: str, seconds: float) -> None:
    """An observer that does nothing."""

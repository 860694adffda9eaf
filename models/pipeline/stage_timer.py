"""How long each stage of a batch took, on the device that did the work."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

Observe = Callable[[str, float], None]


class StageTimer:
    """Times the stages of one batch and reports them at its end, in order, in seconds.

    A CUDA device works on after its launches return. There marks go along with the work, and are read when
    all of it is done: waiting for each stage would leave the device idle while the next one is launched.
    """

    def __init__(self, device: torch.device, observe: Observe) -> None:
        self._stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
        self._observe = observe
        self._marks: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time what happens inside as the stage of that name."""
        if self._stream is None:
            started = time.perf_counter()
            yield
            self._observe(name, time.perf_counter() - started)
            return
        began, ended = (_mark() for _ in range(2))
        began.record(self._stream)
        yield
        ended.record(self._stream)
        self._marks.append((name, began, ended))

    def finish(self) -> None:
        """Wait for the device, and report what it has done."""
        for name, began, ended in self._marks:
            ended.synchronize()
            self._observe(name, began.elapsed_time(ended) / 1000)


def _mark() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch has no types for it

"""What the models have of the queue: the slots of each flow, and the waits that they predict.

A flow is one model. All share the slots, but none may take them all where there are several: then a crowd of
requests for one model would leave none for another.
"""

from collections.abc import Sequence

from app.batching.flow import Flow
from app.batching.item import HIGHEST


class Shares:
    """The flows with slots, and the devices that they share."""

    def __init__(self, max_queue: int) -> None:
        self._max_queue = max_queue
        self._slots: dict[Flow, list[int]] = {}  # by priority; of flows that have any
        self._models = 1
        self.taken = 0
        self.devices = 1

    def set_models(self, models: int) -> None:
        """Set how many models share the queue; at least one."""
        self._models = max(1, models)

    def take(self, flow: Flow, priority: int, slots: int) -> None:
        """Count slots of a flow as taken; fewer, when negative."""
        own = self._slots.setdefault(flow, [0] * (HIGHEST + 1))
        own[priority] += slots
        self.taken += slots
        if not any(own):  # a model that is unloaded must not stay in memory
            del self._slots[flow]

    def is_full(self, flow: Flow) -> bool:
        """Whether no slot is free for that flow: half of a fair part is kept for each of the other models."""
        if self.taken >= self._max_queue or self._models == 1:
            return self.taken >= self._max_queue
        kept = (self._models - 1) * (self._max_queue // (2 * self._models))
        return sum(self._slots.get(flow, ())) >= self._max_queue - kept

    @property
    def wait(self) -> float:
        """Seconds until all work is done."""
        return sum(_seconds(flow, slots) for flow, slots in self._slots.items()) / self.devices

    def answer(self, flow: Flow, images: int, priority: int) -> float:
        """Seconds until new images are answered: the work before them, they themselves and their batch.

        Work of a lower priority goes behind them. Of other flows at most as much goes before them as of their
        own, and the batch that runs.
        """
        pace = flow.pace
        before = sum(_seconds(one, slots, priority) for one, slots in self._slots.items())
        others = [one.pace.per_batch for one in self._slots if one is not flow]
        if others:
            own = _seconds(flow, self._slots.get(flow, ()), priority)
            before = min(before, (1 + len(others)) * own + max(others) * self.devices)
        return (before + images * pace.per_item) / self.devices + pace.per_batch


def _seconds(flow: Flow, slots: Sequence[int], priority: int = 0) -> float:
    """Seconds of one device for the work of a flow of that priority or higher."""
    return sum(slots[priority:]) * flow.pace.per_item

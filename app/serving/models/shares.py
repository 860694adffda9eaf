"""What the models have of the queue: the slots of each flow, how fast its items run, and what that predicts.

A flow is one model. All share the slots, but none may take them all where there are several: then a crowd of
requests for one model would leave none for another.
"""

from weakref import WeakKeyDictionary

from app.batching.flow import Flow
from app.batching.item import HIGHEST
from app.serving.pace import Pace

ANY_FLOW = Flow()  # of requests that belong to no model, and where there is only one


class Share:
    """One flow: its slots by priority, and its pace."""

    def __init__(self, pace: Pace) -> None:
        self.slots = [0] * (HIGHEST + 1)
        self.pace = pace

    def seconds(self, priority: int = 0) -> float:
        """Seconds of one device for its work of that priority or higher."""
        return sum(self.slots[priority:]) * self.pace.per_image


class Shares:
    """The flows, and the devices that they share."""

    def __init__(self, max_queue: int) -> None:
        self._max_queue = max_queue
        self._shares: WeakKeyDictionary[Flow, Share] = WeakKeyDictionary()
        self._latest = Pace()  # of the flow whose batch was the last one
        self._models = 1
        self.devices = 1

    def set_models(self, models: int) -> None:
        """Set how many models share the queue; at least one."""
        self._models = max(1, models)

    @property
    def taken(self) -> int:
        """Number of slots taken."""
        return sum(sum(share.slots) for share in self._shares.values())

    def take(self, flow: Flow, priority: int, slots: int) -> None:
        """Count slots of a flow as taken; fewer, when negative."""
        self._of(flow).slots[priority] += slots

    def is_full(self, flow: Flow) -> bool:
        """Whether no slot is free for that flow: half of a fair part is kept for each of the other models."""
        kept = (self._models - 1) * (self._max_queue // (2 * self._models))
        return self.taken >= self._max_queue or sum(self._of(flow).slots) >= self._max_queue - kept

    def observe(self, flow: Flow, size: int, seconds: float) -> None:
        """Count a batch that has run."""
        self._latest = self._of(flow).pace
        self._latest.observe(size, seconds)

    def reset(self) -> None:
        """The next batch of each flow replaces its averages."""
        for share in self._shares.values():
            share.pace.reset()

    @property
    def wait(self) -> float:
        """Seconds until all work is done."""
        return sum(share.seconds() for share in self._shares.values()) / self.devices

    def answer(self, flow: Flow, images: int, priority: int) -> float:
        """Seconds until new images are answered: the work before them, they themselves and their batch.

        Work of a lower priority goes behind them. Of other flows at most as much goes before them as of their
        own, and the batch that runs.
        """
        own, shares = self._of(flow), self._shares.values()
        before = sum(share.seconds(priority) for share in shares) / self.devices
        others = [share for share in shares if share is not own and any(share.slots)]
        longest = max((share.pace.per_batch for share in others), default=0.0)
        fair = (1 + len(others)) * own.seconds(priority) / self.devices + longest
        return min(before, fair) + images * own.pace.per_image / self.devices + own.pace.per_batch

    def _of(self, flow: Flow) -> Share:
        if flow not in self._shares:
            self._shares[flow] = Share(self._latest.as_guess())
        return self._shares[flow]

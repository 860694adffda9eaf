"""A queue of several flows that share the devices: each has a queue of its own, and none holds up another.

Of the flows with items the one that has had least of the devices is next (start-time fair queueing), so that
a flow of slow items costs another one at most the batch that runs. Priorities go before: an item is passed
over for one whose requested priority is above even the level that waiting has raised it to.
"""

import itertools
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from app.batching.flow import Flow
from app.batching.priority_queue import PriorityQueue

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items by flow, then by priority and key."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tickets = itertools.count()
        self._queues: dict[Flow, PriorityQueue[T]] = {}  # none is empty
        self._served = 0.0  # what the flow that was served last had had by then

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def push(self, item: T, key: Hashable, deadline: float, priority: int, flow: Flow) -> int:
        """Add an item; `discard` takes the ticket returned."""
        if flow not in self._queues:
            flow.seconds = max(flow.seconds, self._served)  # time that it did not use is not saved up
            self._queues[flow] = PriorityQueue(self._clock, self._tickets)
        return self._queues[flow].push(item, key, deadline, priority)

    def head(self) -> tuple[Flow, Hashable] | None:
        """The flow and the key of the next batch; None when the queue is empty."""
        heads = {flow: head for flow, queue in self._queues.items() if (head := queue.head_entry())}
        if not heads:
            return None
        highest = max(head.priority for head in heads.values())
        flow = min(
            (flow for flow, head in heads.items() if head.level >= highest),
            key=lambda one: (one.seconds, heads[one].position),
        )
        self._served = flow.seconds
        return flow, heads[flow].key

    def pop(self, flow: Flow, key: Hashable) -> T | None:
        """Remove the first item of a group of a flow; None when the group is empty."""
        queue = self._queues.get(flow)
        item = queue.pop(key) if queue is not None else None
        self._drop_empty(flow)
        return item

    def discard(self, flow: Flow, ticket: int) -> None:
        """Remove the item with this ticket, if it is still there."""
        if (queue := self._queues.get(flow)) is not None:
            queue.discard(ticket)
            self._drop_empty(flow)

    def size_below(self, priority: int) -> int:
        """Number of items whose requested priority is below this one."""
        return sum(queue.size_below(priority) for queue in self._queues.values())

    def pop_newest_below(self, priority: int) -> T | None:
        """Remove the newest item of the lowest requested priority, if that is below this one; else None."""
        newest = {
            flow: found for flow, queue in self._queues.items() if (found := queue.newest_below(priority))
        }
        if not newest:
            return None
        flow = min(newest, key=lambda one: (newest[one][0], -newest[one][1]))
        item = self._queues[flow].discard(newest[flow][1])
        self._drop_empty(flow)
        return item

    def drain(self) -> list[T]:
        """Remove all items."""
        items = [item for queue in self._queues.values() for item in queue.drain()]
        self._queues.clear()
        return items

    def _drop_empty(self, flow: Flow) -> None:
        """An idle flow is forgotten: a model that is unloaded must not stay in memory."""
        if flow in self._queues and not self._queues[flow]:
            del self._queues[flow]

"""A queue ordered by priority and deadline, and grouped by key; no operation scans it.

The heaps hold positions alone. An item that leaves is freed at once; its positions are skipped, and removed
later by `_compact`. An item that gains a level has two positions, of which the new one comes first.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.batching.item import HIGHEST, LOWEST

T = TypeVar("T")
Position = tuple[int, float, int]
"""(-level, deadline, ticket). The smallest is first: highest level, then earliest deadline, then arrival."""

AGING_SHARE = 0.25  # of the time between arrival and deadline: after each such step an item gains a level
STALE_POSITIONS = 1024  # out of date, beyond one for each item, before the heaps are rebuilt


@dataclass(eq=False)
class Entry(Generic[T]):
    """An item in the queue."""

    item: T
    key: Hashable
    priority: int  # as requested; the level in `position` rises while the item waits
    position: Position
    aging_step: float  # seconds after which a level is gained

    @property
    def level(self) -> int:
        return -self.position[0]


class PriorityQueue(Generic[T]):
    """Items by priority and key. Waiting raises an item's level, so none starves."""

    def __init__(self, clock: Callable[[], float], tickets: Iterator[int] | None = None) -> None:
        """`tickets`: numbers that rise, for queues whose items are compared."""
        self._clock = clock
        self._entries: dict[int, Entry[T]] = {}  # by ticket
        self._by_priority: list[dict[int, None]] = [{} for _ in range(HIGHEST + 1)]  # tickets as they arrived
        self._sizes: Counter[Hashable] = Counter()
        self._heap: list[Position] = []  # of all items
        self._groups: dict[Hashable, list[Position]] = {}  # a heap for each key
        self._promotions: list[tuple[float, int]] = []  # a heap: when a ticket gains a level
        self._tickets = itertools.count() if tickets is None else tickets
        self._stale = 0

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, item: T, key: Hashable, deadline: float, priority: int) -> int:
        """Add an item; `discard` takes the ticket returned."""
        ticket, now = next(self._tickets), self._clock()
        aging_step = AGING_SHARE * max(0.0, deadline - now)
        entry = Entry(item, key, priority, (-priority, deadline, ticket), aging_step)
        self._entries[ticket] = entry
        self._by_priority[priority][ticket] = None
        self._sizes[key] += 1
        self._insert(entry)
        if priority < HIGHEST:
            heapq.heappush(self._promotions, (now + aging_step, ticket))
        return ticket

    def head(self) -> tuple[Hashable, T] | None:
        """The key and the item that is first of all; None when the queue is empty."""
        entry = self.head_entry()
        return None if entry is None else (entry.key, entry.item)

    def head_entry(self) -> Entry[T] | None:
        """The entry that is first of all; None when the queue is empty."""
        self._promote()
        while self._heap:
            if (entry := self._entries.get(self._heap[0][-1])) is not None:
                return entry
            heapq.heappop(self._heap)
        return None

    def size(self, key: Hashable) -> int:
        """Number of items in a group."""
        return self._sizes[key]

    def pop(self, key: Hashable) -> T | None:
        """Remove the first item of a group; None when the group is empty."""
        group = self._groups.get(key, [])
        while group:
            _, _, ticket = heapq.heappop(group)
            if (item := self.discard(ticket)) is not None:
                return item
        return None

    def size_below(self, priority: int) -> int:
        """Number of items whose requested priority is below this one."""
        return sum(map(len, self._by_priority[LOWEST:priority]))

    def newest_below(self, priority: int) -> tuple[int, int] | None:
        """Priority and ticket of the newest item of the lowest priority, if that is below this one."""
        for level, tickets in enumerate(self._by_priority[LOWEST:priority], LOWEST):
            if tickets:
                return level, next(reversed(tickets))
        return None

    def pop_newest_below(self, priority: int) -> T | None:
        """Remove the newest item of the lowest requested priority, if that is below this one; else None."""
        newest = self.newest_below(priority)
        return None if newest is None else self.discard(newest[1])

    def discard(self, ticket: int) -> T | None:
        """Remove the item with this ticket; None when it has left already."""
        entry = self._entries.pop(ticket, None)
        if entry is None:
            return None
        del self._by_priority[entry.priority][ticket]
        self._sizes[entry.key] -= 1
        if not self._sizes[entry.key]:
            del self._sizes[entry.key], self._groups[entry.key]
        self._stale += 1
        self._compact()
        return entry.item

    def drain(self) -> list[T]:
        """Remove all items."""
        return [item for ticket in list(self._entries) if (item := self.discard(ticket)) is not None]

    def _insert(self, entry: Entry[T]) -> None:
        heapq.heappush(self._heap, entry.position)
        heapq.heappush(self._groups.setdefault(entry.key, []), entry.position)

    def _promote(self) -> None:
        """Raise every item whose aging step has passed; each rises at most twice."""
        now = self._clock()
        while self._promotions and self._promotions[0][0] <= now:
            when, ticket = heapq.heappop(self._promotions)
            entry = self._entries.get(ticket)
            if entry is None:
                continue
            level, deadline, _ = entry.position
            entry.position = (level - 1, deadline, ticket)
            self._insert(entry)
            self._stale += 1
            if entry.position[0] > -HIGHEST:
                heapq.heappush(self._promotions, (when + entry.aging_step, ticket))

    def _compact(self) -> None:
        """Rebuild the heaps when most positions may be stale: cancelled items must not make them grow."""
        if self._stale <= len(self._entries) + STALE_POSITIONS:
            return
        self._stale = 0
        self._heap = sorted(entry.position for entry in self._entries.values())  # a sorted list is a heap
        self._groups = {}
        for position in self._heap:
            self._groups.setdefault(self._entries[position[-1]].key, []).append(position)
        self._promotions = [entry for entry in self._promotions if entry[1] in self._entries]
        heapq.heapify(self._promotions)

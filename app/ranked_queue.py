"""The queue with priorities: the higher level first, within it the earlier deadline; none starves.

Who has waited for a share of its time counts a level higher, and again after the same time: whatever comes
later, everyone is on the highest level before half of its time is over, and there the earlier deadline wins.
"""

import heapq
import itertools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.caller import HIGHEST, LOWEST
from app.grouped_queue import GroupedQueue, Place

W = TypeVar("W")

AGEING = 0.25  # of the time between arrival and deadline: after each such share a level is gained


@dataclass(eq=False)
class _Entry(Generic[W]):
    waiter: W
    key: Hashable
    deadline: float
    priority: int  # as given
    level: int  # as reached by waiting
    place: Place  # in that level's queue
    share: float  # seconds after which a level is gained


class RankedQueue(Generic[W]):
    """Waiters by priority and key; a ticket says who it is until it leaves."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._levels: list[GroupedQueue[int]] = [GroupedQueue() for _ in range(HIGHEST + 1)]
        self._entries: dict[int, _Entry[W]] = {}
        self._by_priority: list[dict[int, None]] = [{} for _ in self._levels]  # in the order of arrival
        self._rises: list[tuple[float, int]] = []  # when a ticket gains a level; cleaned later
        self._tickets = itertools.count()
        self._stale = 0

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, waiter: W, key: Hashable, deadline: float, priority: int) -> int:
        """Add a waiter; `discard` takes the ticket returned."""
        ticket, now = next(self._tickets), self._clock()
        place = self._levels[priority].push(ticket, key, deadline)
        share = AGEING * max(0.0, deadline - now)
        self._entries[ticket] = _Entry(waiter, key, deadline, priority, priority, place, share)
        self._by_priority[priority][ticket] = None
        if priority < HIGHEST:
            heapq.heappush(self._rises, (now + share, ticket))
        return ticket

    def head(self) -> tuple[Hashable, W] | None:
        """The first of all, after its key; None when nobody waits."""
        self._age()
        for level in reversed(self._levels):
            if (head := level.head()) is not None:
                return head[0], self._entries[head[1]].waiter
        return None

    def size(self, key: Hashable) -> int:
        """How many wait in a group, on all levels."""
        return sum(level.size(key) for level in self._levels)

    def pop(self, key: Hashable) -> W | None:
        """Take the first of a group; None when nobody waits there."""
        for level in reversed(self._levels):
            if (ticket := level.pop(key)) is not None:
                return self._remove(ticket).waiter
        return None

    def pop_newest_below(self, priority: int) -> W | None:
        """Take the newest of the lowest priority below this one, by what it was given; None without one."""
        for lower in self._by_priority[LOWEST:priority]:
            if lower:
                return self.discard(next(reversed(lower)))
        return None

    def discard(self, ticket: int) -> W | None:
        """Take out who has this ticket; None when it has left already."""
        entry = self._entries.get(ticket)
        if entry is None:
            return None
        self._levels[entry.level].discard(entry.place)
        return self._remove(ticket).waiter

    def drain(self) -> list[W]:
        """Take everybody out."""
        return [waiter for ticket in list(self._entries) if (waiter := self.discard(ticket)) is not None]

    def _age(self) -> None:
        """Raise everybody whose time has come; each rises at most twice."""
        now = self._clock()
        while self._rises and self._rises[0][0] <= now:
            when, ticket = heapq.heappop(self._rises)
            entry = self._entries.get(ticket)
            if entry is None:
                continue
            self._levels[entry.level].discard(entry.place)
            entry.level += 1
            entry.place = self._levels[entry.level].push(ticket, entry.key, entry.deadline)
            if entry.level < HIGHEST:
                heapq.heappush(self._rises, (when + entry.share, ticket))

    def _remove(self, ticket: int) -> _Entry[W]:
        entry = self._entries.pop(ticket)
        del self._by_priority[entry.priority][ticket]
        self._stale += 1
        if self._stale > len(self._entries) + 1024:  # most may be stale: gone callers must not make it grow
            self._stale = 0
            self._rises = [rise for rise in self._rises if rise[1] in self._entries]
            heapq.heapify(self._rises)
        return entry

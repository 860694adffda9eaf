"""A queue in groups: the most urgent of all, the next of a group, the size of a group, none with a scan."""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.batching.item import HIGHEST, LOWEST

W = TypeVar("W")
Position = tuple[float, int]  # (deadline, ticket): the earlier deadline first, then the earlier arrival


@dataclass(frozen=True)
class _Entry(Generic[W]):
    waiter: W
    key: Hashable


class GroupedQueue(Generic[W]):
    """Waiters by key, the earliest deadline first; in time everyone's is the earliest, so nobody starves.

    The heaps hold places alone and are cleaned later; the waiter itself, and its memory, leaves at once.
    """

    def __init__(self) -> None:
        self._entries: dict[Position, _Entry[W]] = {}
        self._urgent: list[Position] = []
        self._groups: dict[Hashable, list[Position]] = {}
        self._sizes: Counter[Hashable] = Counter()
        self._tickets = itertools.count()
        self._stale = 0

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, waiter: W, key: Hashable, deadline: float) -> Position:
        """Add a waiter; `discard` takes the place returned."""
        place = (deadline, next(self._tickets))
        heapq.heappush(self._groups.setdefault(key, []), place)
        heapq.heappush(self._urgent, place)
        self._sizes[key] += 1
        self._entries[place] = _Entry(waiter, key)
        return place

    def head(self) -> tuple[Hashable, W] | None:
        """The most urgent waiter of all, after its key; None when nobody waits."""
        while self._urgent:
            entry = self._entries.get(self._urgent[0])
            if entry is not None:
                return entry.key, entry.waiter
            heapq.heappop(self._urgent)
        return None

    def size(self, key: Hashable) -> int:
        """How many wait in a group."""
        return self._sizes[key]

    def pop(self, key: Hashable) -> W | None:
        """Take the most urgent waiter of a group; None when nobody waits there."""
        group = self._groups.get(key, [])
        while group:
            waiter = self.discard(heapq.heappop(group))
            if waiter is not None:
                return waiter
        return None

    def discard(self, place: Position) -> W | None:
        """Take out who is at this place; None when it has left already."""
        entry = self._entries.pop(place, None)
        if entry is None:
            return None
        self._sizes[entry.key] -= 1
        if not self._sizes[entry.key]:
            del self._sizes[entry.key], self._groups[entry.key]
        self._clean()
        return entry.waiter

    def drain(self) -> list[W]:
        """Take everybody out."""
        return [waiter for place in list(self._entries) if (waiter := self.discard(place)) is not None]

    def _clean(self) -> None:
        """Rebuild the heaps when most of their places may be stale: gone callers must not make them grow."""
        self._stale += 1
        if self._stale <= len(self._entries) + 1024:
            return
        self._stale = 0
        self._urgent = sorted(self._entries)  # a sorted list is a heap, and so is each sorted part of it
        self._groups = {}
        for place in self._urgent:
            self._groups.setdefault(self._entries[place].key, []).append(place)


AGEING = 0.25  # of the time between arrival and deadline: after each such share a level is gained


@dataclass(eq=False)
class _RankedEntry(Generic[W]):
    waiter: W
    key: Hashable
    deadline: float
    priority: int  # as given
    level: int  # as reached by waiting
    place: Position  # in that level's queue
    share: float  # seconds after which a level is gained


class RankedQueue(Generic[W]):
    """Waiters by priority and key; a ticket says who it is until it leaves."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._levels: list[GroupedQueue[int]] = [GroupedQueue() for _ in range(HIGHEST + 1)]
        self._entries: dict[int, _RankedEntry[W]] = {}
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
        self._entries[ticket] = _RankedEntry(waiter, key, deadline, priority, priority, place, share)
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

    def _remove(self, ticket: int) -> _RankedEntry[W]:
        entry = self._entries.pop(ticket)
        del self._by_priority[entry.priority][ticket]
        self._stale += 1
        if self._stale > len(self._entries) + 1024:  # most may be stale: gone callers must not make it grow
            self._stale = 0
            self._rises = [rise for rise in self._rises if rise[1] in self._entries]
            heapq.heapify(self._rises)
        return entry

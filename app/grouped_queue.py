"""A queue in groups: the most urgent of all, the next of a group, the size of a group, none with a scan."""

import heapq
import itertools
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

W = TypeVar("W")
Place = tuple[float, int]  # (deadline, ticket): the earlier deadline first, then the earlier arrival


@dataclass(frozen=True)
class _Entry(Generic[W]):
    waiter: W
    key: Hashable


class GroupedQueue(Generic[W]):
    """Waiters by key, the earliest deadline first; in time everyone's is the earliest, so nobody starves.

    The heaps hold places alone and are cleaned later; the waiter itself, and its memory, leaves at once.
    """

    def __init__(self) -> None:
        self._entries: dict[Place, _Entry[W]] = {}
        self._urgent: list[Place] = []
        self._groups: dict[Hashable, list[Place]] = {}
        self._sizes: Counter[Hashable] = Counter()
        self._tickets = itertools.count()
        self._stale = 0

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, waiter: W, key: Hashable, deadline: float) -> Place:
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

    def discard(self, place: Place) -> W | None:
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

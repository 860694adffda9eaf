"""Who waits for an answer, as one: a request may have several items in the queue, and ends only once."""

from dataclasses import dataclass

LOWEST, NORMAL, HIGHEST = 0, 1, 2
"""Priorities of requests: the higher number goes first."""


@dataclass(eq=False)
class Caller:
    """One request. Of its several items only the first end is counted: that it left, or that it was late."""

    ended: bool = False
    priority: int = NORMAL

    def first(self) -> bool:
        """Whether this is the first end; from now on there has been one."""
        first, self.ended = not self.ended, True
        return first

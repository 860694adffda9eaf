"""Who waits for an answer, as one: a request may have several items in the queue, and ends only once."""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

LOWEST, NORMAL, HIGHEST = 0, 1, 2
"""Priorities of requests: the higher number goes first."""


@dataclass(eq=False)
class RequestHandle:
    """One request. Of its several items only the first end is counted: that it left, or that it was late."""

    ended: bool = False
    priority: int = NORMAL

    def mark_finished(self) -> bool:
        """Whether this is the first end; from now on there has been one."""
        first, self.ended = not self.ended, True
        return first


T = TypeVar("T")
R = TypeVar("R")


class Expired(TimeoutError):
    """The item's deadline passed before its answer was ready."""


class Closed(RuntimeError):
    """The batcher does not answer: it was not started, is closed or closing, or no device works any more."""


class Shed(RuntimeError):
    """The item gave up its place in the queue to one of a higher priority."""


@dataclass(frozen=True)
class Completed(Generic[R]):
    """A result; seconds from `submit` to the beginning of the batch that gave it; seconds that batch ran."""

    result: R
    queued: float
    ran: float


@dataclass(eq=False)
class QueueItem(Generic[T, R]):
    """One item of a caller, and the future that takes its one outcome."""

    item: T
    key: Hashable
    deadline: float
    arrived: float
    future: "asyncio.Future[Completed[R] | Exception]"
    ticket: int = -1  # its place in the queue
    device: object | None = None  # the device that owes it an answer; None while it is in the queue
    dispatched: bool = False
    requeued: bool = False  # to another device, from one that was taken out

    def answer(self, outcome: Completed[R] | Exception) -> None:
        """Give the outcome, unless the caller has one already or has gone: the first is the only one."""
        if not self.future.done():
            self.future.set_result(outcome)

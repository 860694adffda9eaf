"""An item in the queue, and the request that it belongs to: a request may have several items."""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.batching.flow import Flow

LOWEST, NORMAL, HIGHEST = 0, 1, 2
"""Priorities of requests: the higher number goes first."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(eq=False)
class RequestHandle:
    """One request. However many items it has, its cancellation or expiry is counted once."""

    priority: int = NORMAL
    finished: bool = False

    def mark_finished(self) -> bool:
        """Mark the request as finished; True the first time."""
        first, self.finished = not self.finished, True
        return first


class Expired(TimeoutError):
    """The item's deadline passed before its result was ready."""


class Closed(RuntimeError):
    """The batcher does not answer: it was not started, is closed or closing, or no device works any more."""


class Shed(RuntimeError):
    """The item was removed from the queue for one of a higher priority."""


@dataclass(frozen=True)
class Completed(Generic[R]):
    """A result; seconds from `submit` to the start of the batch that gave it; seconds that batch ran."""

    result: R
    queued: float
    ran: float


@dataclass(eq=False)
class QueueItem(Generic[T, R]):
    """One item of a request, and the future that takes its one outcome."""

    item: T
    key: Hashable
    deadline: float
    arrived: float
    future: "asyncio.Future[Completed[R] | Exception]"
    flow: Flow | None = None  # None: that of the batcher
    ticket: int = -1  # in the queue
    device: object | None = None  # the device that must answer it; None while it is in the queue
    dispatched: bool = False  # a device has begun it
    requeued: bool = False  # from a device that was taken out

    def resolve(self, outcome: Completed[R] | Exception) -> None:
        """Set the outcome, unless there is one already or the request was cancelled."""
        if not self.future.done():
            self.future.set_result(outcome)

"""Sends results to a receiver that the stream names: the newest one, again and again until it is taken.

One result waits at most. Where a receiver is slow or away, a newer result takes its place, also between two
tries, so that nothing grows and what arrives is never old.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential, wait_random

from app.schemas.cameras import DeliveryEntry
from app.serving.streams import LatestFrame
from app.telemetry.camera_metrics import Counts

Receiver = Literal["webhook", "mqtt"]
DeliveryOutcome = Literal["delivered", "dropped", "failed"]


@dataclass(frozen=True)
class Pauses:
    """Seconds before the next try: at first, and at most; they double from try to try."""

    first: float = 1.0
    longest: float = 60.0

    def __call__(self, state: RetryCallState) -> float:
        """The pause after a try that failed."""
        return (wait_exponential(self.first, self.longest) + wait_random(0, self.first))(state)


class NotDelivered(Exception):
    """The receiver did not take a result; it may take the next one."""


class Outlet(Protocol):
    """A way to a receiver."""

    receiver: Receiver
    address: str  # for lists

    async def send(self, body: bytes) -> None:
        """Send a result; raises NotDelivered."""

    async def close(self) -> None:
        """End the connection."""


class Delivery:
    """The results on their way to one receiver."""

    def __init__(self, outlet: Outlet, pauses: Pauses, counters: Counts) -> None:
        """`counters`: the series of the outcomes."""
        self._outlet = outlet
        self._counters = counters
        self._counts: dict[DeliveryOutcome, int] = {"delivered": 0, "dropped": 0, "failed": 0}
        self._reason: str | None = None
        self._latest: LatestFrame[bytes] = LatestFrame()
        self._retrying = AsyncRetrying(
            sleep=asyncio.sleep,
            wait=pauses,
            retry=retry_if_exception_type(NotDelivered),
            before_sleep=self._note_failure,
        )

    def offer(self, body: bytes) -> None:
        """Send a result as soon as the receiver takes one."""
        if self._latest.put(body):
            self._count("dropped")

    def entry(self) -> DeliveryEntry:
        """What lists show."""
        outlet = self._outlet
        return DeliveryEntry(
            receiver=outlet.receiver, address=outlet.address, reason=self._reason, **self._counts
        )

    async def run(self) -> None:
        """Send until it is cancelled."""
        try:
            while True:
                await self._latest.wait()
                await self._send_newest()
        finally:
            await self._outlet.close()

    async def _send_newest(self) -> None:
        body: bytes | None = None
        async for attempt in self._retrying:
            with attempt:
                with suppress(LookupError):  # no newer one has come
                    newest = self._latest.take()
                    if body is not None:
                        self._count("dropped")
                    body = newest
                await self._outlet.send(body or b"")
        self._count("delivered")
        self._reason = None

    def _note_failure(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self._reason = str(error)
        self._count("failed")

    def _count(self, outcome: DeliveryOutcome) -> None:
        self._counts[outcome] += 1
        self._counters[outcome].inc()

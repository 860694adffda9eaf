"""The open calls: how many there may be, their time, and the bytes of their messages."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import grpc

from app.errors import DeadlineExceeded, InvalidParameter, Overloaded
from app.protocols.openinference.shared_memory import SharedMemory
from app.serving.service import DetectionService
from app.settings.settings import Settings

CALLS_PER_SLOT = 4  # open calls for each slot of the queue: the others wait for admission
RETRY_SECONDS = 1.0  # after which a refused call may find one ended

Read = Callable[[], Awaitable[Any]]
"""Reads the next message of a call, or EOF. An iterator of messages would keep the last one."""


@dataclass(frozen=True)
class CallContext:
    """A call apart from its message: when it began (monotonic), and the seconds its client gave it, if any.

    `priority` is that of its metadata, `nbytes` the length of its message, `memory` the shared memory of a
    client on this machine.
    """

    started: float
    seconds: float | None = None
    priority: int | None = None
    nbytes: int = 0
    memory: SharedMemory | None = None

    def seconds_of(self, limit: float) -> float:
        """The shorter of `limit` and the time that the client gave, counted from the beginning."""
        return limit if self.seconds is None else min(limit, self.seconds)

    def seconds_left(self, limit: float) -> float:
        """What is left of `seconds_of`."""
        return max(0.0, self.started + self.seconds_of(limit) - time.monotonic())


class OpenCalls:
    """Counts the calls of users, and bounds what they hold.

    gRPC collects a whole message before it shows it. Until then the number of messages that are received at a
    time bounds their bytes, afterwards the account does. A call without a key and a probe are not counted:
    they are answered from the headers alone, at once.
    """

    def __init__(self, service: DetectionService, memory: SharedMemory | None = None) -> None:
        self.memory = memory
        settings: Settings = service.settings
        self._service = service
        self._account = service.bodies.users
        self._seconds = settings.timeout_ms / 1000
        self._limit = CALLS_PER_SLOT * settings.max_queue
        self._open = 0
        self._receiving = asyncio.Semaphore(max(1, settings.max_queue_bytes // settings.max_body_bytes))

    @contextmanager
    def count(self) -> Iterator[None]:
        """Count a call as long as it is open; raises Overloaded where there are too many."""
        if self._open >= self._limit:
            raise Overloaded(
                f"{self._open} calls are open, {self._limit} are allowed; try again in {RETRY_SECONDS:.0f} s",
                RETRY_SECONDS,
            )
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def admit(self, call: CallContext) -> None:
        """Wait a moment for capacity, before the message is read; raises ServiceError."""
        await self._service.wait_for_capacity(call.started, call.priority)

    async def receive(self, read: Read, call: CallContext) -> bytes:
        """The one message of a call; raises DeadlineExceeded if it does not arrive within the call's time."""
        try:
            async with asyncio.timeout(call.seconds_left(self._seconds)), self._receiving:
                message = await read()
        except TimeoutError as error:
            raise DeadlineExceeded(
                "the message did not arrive within the call's time; send it faster, or raise RCNN_TIMEOUT_MS"
            ) from error
        if message is grpc.aio.EOF:
            raise InvalidParameter("the call has no message; send one")
        return cast(bytes, message)

    async def receive_next(self, read: Read, idle_seconds: float) -> bytes | None:
        """The next message of a stream; None where the client sends no more, or none in time.

        gRPC does not show that a message has begun: one that stops in the middle ends as no message does.
        """
        try:
            async with asyncio.timeout(min(idle_seconds, self._seconds)):
                message = await read()
        except TimeoutError:
            return None
        return None if message is grpc.aio.EOF else cast(bytes, message)

    def hold(self, nbytes: int) -> AbstractContextManager[None]:
        """Count the bytes of a message as long as its request is open; raises Overloaded."""
        return self._account.hold(nbytes)

    async def sent(self, sending: Any) -> None:
        """Wait until a stream's response is sent; a client that does not read it ends its stream."""
        try:
            async with asyncio.timeout(self._seconds):
                await sending
        except TimeoutError as error:
            raise asyncio.CancelledError from error  # gRPC can send no status behind a message that waits


def forget_frames(error: BaseException) -> None:
    """Forget where an error was raised: in a cycle its frames keep the message for minutes."""
    error.__traceback__ = error.__context__ = error.__cause__ = None

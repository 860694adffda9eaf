"""The memory of running decodes, reserved from an image's header before its pixels are decoded.

It counts in RCNN_MAX_QUEUE_BYTES. Where too little is left, a decode waits on its thread for another one to
end: fewer then run at once, and none is rejected. One that no other one could make way for is let through, as
is a small one, which a large one must not hold up: beside RCNN_MAX_QUEUE_BYTES, decoding takes at most the
memory of one large image, and SMALL_BYTES a thread.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from app.errors import Overloaded
from models.images.control import DecodeControl, DecodeStopped

SMALL_BYTES = 96 * 2**20  # a photograph of 12 megapixels takes 84 MB
SPARE_SECONDS = 5.0  # after a request's time, in which the event loop stops its decode

Grow = Callable[[int], None]
"""Holds more bytes in a request's account, fewer when negative; raises Overloaded. On the event loop."""


class DecodeMemory:
    """Knows the large decodes that run, and those that wait for one to end."""

    def __init__(self) -> None:
        self._large = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """Number of decodes that wait for another one to end."""
        return len(self._waiting)

    @property
    def has_large(self) -> bool:
        """Whether a large decode runs."""
        return self._large > 0

    def begin(self, nbytes: int) -> None:
        """A decode of so many bytes begins."""
        self._large += nbytes > SMALL_BYTES

    def end(self, nbytes: int) -> None:
        """It has ended: the waiting ones try again."""
        self._large -= nbytes > SMALL_BYTES
        self.notify()

    def notify(self) -> None:
        """Let the waiting decodes look again."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)

    async def wait(self) -> None:
        """Wait until a decode ends or is stopped."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting


class Reservation(DecodeControl):
    """The memory of one decode. `reserve` and `check` are called on its thread, the rest on the loop's."""

    def __init__(self, memory: DecodeMemory, grow: Grow, seconds: float) -> None:
        """`seconds`: the request's time."""
        self._memory = memory
        self._grow = grow
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._taken = 0  # bytes that the decode may use
        self._held = 0  # those of them that the request's account holds
        self._stopped = False

    def reserve(self, nbytes: int) -> None:
        """Take so many bytes in place of those taken before; waits for them. Raises DecodeStopped."""
        if nbytes <= self._taken:
            return
        taken = asyncio.run_coroutine_threadsafe(self._take(nbytes), self._loop)
        try:
            taken.result(self._seconds + SPARE_SECONDS)
        except TimeoutError as error:  # the loop runs no more
            raise DecodeStopped from error

    def check(self) -> None:
        """Raise DecodeStopped where the request is over."""
        if self._stopped:
            raise DecodeStopped

    def stop(self) -> None:
        """The request is over: give everything back, and stop the decode at its next step."""
        self._stopped = True
        self._give_back()
        self._memory.notify()

    async def _take(self, nbytes: int) -> None:
        self._give_back()  # none waits while it holds what another one waits for
        while not self._stopped:
            try:
                self._grow(nbytes)
                self._held = nbytes
            except Overloaded:
                if nbytes > SMALL_BYTES and self._memory.has_large:
                    await self._memory.wait()
                    continue
            self._taken = nbytes
            self._memory.begin(nbytes)
            return
        raise DecodeStopped

    def _give_back(self) -> None:
        taken, held, self._taken, self._held = self._taken, self._held, 0, 0
        if held:
            self._grow(-held)
        if taken:
            self._memory.end(taken)

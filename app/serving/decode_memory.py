"""The memory of running decodes, reserved from an image's header before its pixels are decoded.

It counts in RCNN_MAX_QUEUE_BYTES, up to half of it: a decode must not make admission reject everybody else.
A large decode for which too little is left waits on its thread for another large one to end, so that fewer
run at once; none is rejected. It does not wait if no other large one runs. A small one never waits, as a
large one must not delay it. So decoding takes at most half of RCNN_MAX_QUEUE_BYTES, one large image, and
SMALL_BYTES a thread.
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
    """The bytes that all running decodes hold, and the large ones that wait for another to end."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._large = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """Number of decodes that wait for another one to end."""
        return len(self._waiting)

    def must_wait(self, nbytes: int) -> bool:
        """Whether a decode of so many bytes waits for a large one."""
        return nbytes > SMALL_BYTES and nbytes > self._left and self._large > 0

    def begin(self, nbytes: int, grow: Grow) -> int:
        """A decode of so many bytes begins; the number of them that its account holds."""
        self._large += nbytes > SMALL_BYTES
        held = min(nbytes, self._left)
        try:
            grow(held)
        except Overloaded:  # bodies and canvases take the rest
            return 0
        self._left -= held
        return held

    def end(self, nbytes: int, held: int, grow: Grow) -> None:
        """It has ended: its account gives the bytes back, and the waiting ones try again."""
        grow(-held)
        self._left += held
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
        while self._memory.must_wait(nbytes) and not self._stopped:
            await self._memory.wait()
        if self._stopped:
            raise DecodeStopped
        self._taken, self._held = nbytes, self._memory.begin(nbytes, self._grow)

    def _give_back(self) -> None:
        if self._taken:
            self._memory.end(self._taken, self._held, self._grow)
        self._taken = self._held = 0

"""Clients that watch a stream; each gets the newest line when it has taken the one before."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager

from app.errors import Overloaded
from app.serving.streams import RETRY_SECONDS, LatestFrame

MAX_WATCHERS = 16  # of a stream: each holds a connection for as long as it likes
HEARTBEAT_SECONDS = 15.0  # of silence, then a line with the state: proxies end a silent connection after 60 s


class Watcher:
    """One client; `finish` gives it its last line."""

    def __init__(self) -> None:
        self._latest: LatestFrame[bytes] = LatestFrame()
        self._over = False

    def put(self, line: bytes) -> None:
        """Offer a line; it replaces one that was not taken."""
        self._latest.put(line)

    def finish(self, line: bytes) -> None:
        """Offer the last line."""
        self._latest.put(line)
        self._over = True

    async def lines(self, heartbeat: Callable[[], bytes]) -> AsyncGenerator[bytes, None]:
        """The state first, then the lines until the last one."""
        if not self._over:
            yield heartbeat()
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._latest.wait()
            except TimeoutError:
                yield heartbeat()
                continue
            line, last = self._latest.take(), self._over
            yield line
            if last:
                return


class Watchers:
    """The clients of a stream."""

    def __init__(self) -> None:
        self._open: set[Watcher] = set()

    @contextmanager
    def watch(self) -> Iterator[Watcher]:
        """One more client, as long as the block runs; raises Overloaded."""
        if len(self._open) >= MAX_WATCHERS:
            raise Overloaded(
                f"{MAX_WATCHERS} clients watch this stream, as many as are allowed; try later", RETRY_SECONDS
            )
        watcher = Watcher()
        self._open.add(watcher)
        try:
            yield watcher
        finally:
            self._open.discard(watcher)

    def put(self, line: bytes) -> None:
        """Offer a line to all of them."""
        for watcher in self._open:
            watcher.put(line)

    def finish(self, line: bytes) -> None:
        """Offer all of them their last line."""
        for watcher in self._open:
            watcher.finish(line)

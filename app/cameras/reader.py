"""Reads a camera on a thread of its own and keeps its newest frame: a slow device drops frames."""

import asyncio
import contextlib
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from app.batching.worker import RunResult, Worker
from app.serving.decode_threads import lower_priority
from models.images.decoder import Limits
from models.images.video.camera import LiveFrame, SourceLost, read_live


class SourceEnded(SourceLost):
    """The source has no more frames."""


@dataclass(frozen=True, eq=False)
class ReceivedFrame:
    """A frame, its number in the order received from 0, and when it came."""

    live: LiveFrame
    index: int
    time: datetime


class CameraReader:
    """One connection to a source. `received` and `dropped` count its frames, on from those before it."""

    def __init__(self, address: str, limits: Limits, received: int, dropped: int) -> None:
        self.received, self.dropped = received, dropped
        self._limits = limits
        self._newest: ReceivedFrame | None = None
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._available = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._worker: Worker[str, None] = Worker(self._read, time.monotonic)
        self._reading = asyncio.create_task(self._worker.call([address]), name="camera")
        self._reading.add_done_callback(self._note_end)

    def stop(self) -> None:
        """Let the thread end: at its next frame, or when its source has been silent for its time."""
        with self._lock:
            self._stopped.set()
            self._newest = None

    async def ended(self) -> None:
        """Wait until the thread has left the source."""
        await asyncio.wait({self._reading})

    async def wait(self) -> None:
        """Wait for a frame; raises SourceLost where there are no more, ImageError where none can be read."""
        await self._available.wait()
        if self._newest is not None:
            return
        outcome = self._reading.result()
        if isinstance(outcome, Exception):
            raise outcome
        raise SourceEnded("it has ended")

    def take(self) -> ReceivedFrame:
        """Remove and return the newest frame; `wait` says when there is one."""
        with self._lock:
            frame, self._newest = self._newest, None
            if not self._reading.done():
                self._available.clear()
        if frame is None:
            raise LookupError("there is no frame")
        return frame

    def _note_end(self, reading: "asyncio.Task[RunResult[None] | Exception]") -> None:
        self._worker.stop()
        self._available.set()

    def _read(self, addresses: list[str]) -> list[None]:
        """On the thread: the frames of the address until its end, or until `stop`."""
        lower_priority()
        began = time.monotonic()
        with closing(read_live(addresses[0], self._limits)) as frames:
            for frame in frames:
                if frame.due is not None:  # of a file, which is read as fast as it is shown
                    self._stopped.wait(began + frame.due - time.monotonic())
                self._put(frame)
                if self._stopped.is_set():
                    break
        return [None]

    def _put(self, live: LiveFrame) -> None:
        with self._lock:
            if self._stopped.is_set():
                return
            waits = self._newest is not None
            self._newest = ReceivedFrame(live, self.received, datetime.now(UTC))
            self.received += 1
            self.dropped += waits
        if not waits:
            with contextlib.suppress(RuntimeError):  # the event loop has closed
                self._loop.call_soon_threadsafe(self._available.set)

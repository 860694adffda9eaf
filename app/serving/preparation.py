"""Bytes to canvases, on threads: what can fail for an image's own reason fails here, before the queue."""

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

from app.batching.item import RequestHandle
from app.errors import DeadlineExceeded, ImageTooLarge, InvalidParameter, from_image_error
from app.serving.interfaces import Canvas
from app.serving.request import Plan, Source
from app.settings.settings import Settings
from app.telemetry.metrics import Metrics
from models.detections import Detections
from models.images import decoder, drawing
from models.images.decoder import Image
from models.tiling.tiles import Tile, TooManyTiles, cut

P = ParamSpec("P")
R = TypeVar("R")

DECODE_NICENESS = 10  # steps of niceness that a decoding thread has above the others


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """A decoded and prepared image; `size` is (width, height), `seconds` what that took.

    The canvas is that of the whole image. Where there are tiles, `first` is the first one's, as large as each
    of theirs, and the image stays for the others.
    """

    size: tuple[int, int]
    canvas: Canvas
    image: Image | None
    seconds: float
    tiles: tuple[Tile, ...] = ()
    first: Canvas | None = None

    @property
    def jobs(self) -> int:
        """How many canvases the device will see."""
        return 1 + len(self.tiles)

    def nbytes(self, at_once: int) -> int:
        """Bytes held while it waits, with so many of its tiles' canvases at once."""
        tiles = min(at_once, len(self.tiles)) * self.first.nbytes if self.first else 0
        return self.canvas.nbytes + (self.image.pixels.nbytes if self.image else 0) + tiles


class Preparation:
    """The threads on which images are decoded, resized, cut and drawn."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        self._limits = decoder.Limits(max_pixels=settings.max_pixels)
        threads = settings.decode_threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(threads, "decode", _lower_priority)

    def close(self) -> None:
        """Begin nothing new; what runs is not waited for."""
        self._pool.shutdown(wait=False)

    async def prepare(self, data: Source, plan: Plan, caller: RequestHandle) -> PreparedImage:
        """Decode, resize and pad; raises ServiceError."""
        try:
            ready = await self.run(plan, caller, self._prepare, data, plan)
        except decoder.ImageError as error:
            raise from_image_error(error) from error
        except TooManyTiles as error:
            raise InvalidParameter(f"tile={plan.tiling.side if plan.tiling else None}: {error}") from error
        except asyncio.CancelledError:
            if caller.mark_finished():
                self._metrics.cancelled.inc()
            raise
        self._metrics.stage_duration.labels(stage="decode").observe(ready.seconds)
        return ready

    def _prepare(self, data: Source, plan: Plan) -> PreparedImage:
        started = time.monotonic()
        image, tiles = self._read(data, plan)
        prepare = plan.model.prepare
        canvas = prepare(image, plan.size, plan.upscale)
        first = prepare(cut(image, tiles[0]), plan.size, plan.upscale) if tiles else None
        seconds = time.monotonic() - started
        kept = self._kept(image, data, plan) if plan.draw or tiles else None
        return PreparedImage((image.width, image.height), canvas, kept, seconds, tiles, first)

    def _read(self, data: Source, plan: Plan) -> tuple[Image, tuple[Tile, ...]]:
        """The image and the tiles to cut it into, which need all of its pixels; else a draft of it may do."""
        model, jpeg = plan.model, plan.model.detector.jpeg
        enough = model.card.canvas_limits(plan.size)
        if plan.tiling:
            image = decoder.read(data, self._limits, jpeg=jpeg)
            if tiles := model.tiles((image.width, image.height), plan.size, plan.tiling):
                return image, tiles
        return decoder.read(data, self._limits, enough, jpeg), ()

    def _kept(self, image: Image, data: Source, plan: Plan) -> Image:
        """All pixels, for the drawing or the tiles. Without either they go: nothing that waits holds more."""
        return decoder.read(data, self._limits) if image.draft and plan.draw else image

    async def tile(self, ready: PreparedImage, tile: Tile, plan: Plan, caller: RequestHandle) -> Canvas:
        """The canvas of one tile of an image."""
        if ready.first is not None and tile is ready.tiles[0]:
            return ready.first
        if ready.image is None:
            raise RuntimeError("an image with tiles keeps its pixels until the last one is cut")
        return await self.run(plan, caller, self._cut, ready.image, tile, plan)

    def _cut(self, image: Image, tile: Tile, plan: Plan) -> Canvas:
        return plan.model.prepare(cut(image, tile), plan.size, plan.upscale)

    async def draw(
        self, ready: PreparedImage, found: Detections, plan: Plan, caller: RequestHandle
    ) -> bytes | None:
        """The image with its detections on it as a file, if the plan asks for one."""
        if ready.image is None or plan.draw is None:
            return None
        labels = plan.model.card.labels
        return await self.run(plan, caller, drawing.encode, ready.image, found, labels, plan.draw)

    async def run(
        self, plan: Plan, caller: RequestHandle, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Work on a thread, within the plan's time; raises DeadlineExceeded."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(plan.seconds_left()):
                return await loop.run_in_executor(self._pool, partial(work, *args, **kwargs))
        except TimeoutError as error:
            if caller.mark_finished():
                self._metrics.deadline_exceeded.inc()
            raise late() from error


def _lower_priority() -> None:
    """Let the device's threads go first: one decoder in their midst holds all of them up.

    On two cores that gave a seventh more images a second. Decoding has the time in which one of them is idle.
    """
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        with contextlib.suppress(OSError):
            thread = threading.get_native_id()
            niceness = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, min(19, niceness + DECODE_NICENESS))


def late() -> DeadlineExceeded:
    """The error of a request whose time is up."""
    return DeadlineExceeded(
        "the request's time ran out before its answer; send it again later, or raise timeout_ms"
    )


def too_large(canvas: Canvas) -> ImageTooLarge:
    """The error of a canvas for which the device has no memory, alone in its batch."""
    height, width = canvas.key
    return ImageTooLarge(
        f"a canvas of {width} x {height} px does not fit into the device; give a smaller `size`"
    )

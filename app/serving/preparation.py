"""Turns bytes into canvases, on threads. An image that cannot be used fails here, before the queue."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

from app.batching.item import RequestHandle
from app.errors import ImageTooLarge, InvalidParameter, from_image_error
from app.serving.decode_memory import DecodeMemory, Grow
from app.serving.decode_threads import DecodeThreads
from app.serving.interfaces import Canvas
from app.serving.request import Plan, Source
from app.settings.settings import Settings
from app.telemetry.metrics import Metrics
from models.detections import Detections
from models.images import decoder, drawing
from models.images.control import DecodeControl
from models.images.decoder import Image
from models.tiling.tiles import Tile, TooManyTiles, cut

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """A decoded and prepared image; `size` is (width, height), `seconds` the time that this took.

    `truncated`: a part of its file was missing.

    `canvas` holds the whole image. Where it is cut into tiles, `first_tile` is the canvas of the first one;
    the others have the same size. `image` is kept for the tiles and for drawing.
    """

    size: tuple[int, int]
    canvas: Canvas
    image: Image | None
    seconds: float
    tiles: tuple[Tile, ...] = ()
    first_tile: Canvas | None = None
    truncated: bool = False

    def nbytes(self, at_once: int) -> int:
        """Bytes held while it waits, with the canvases of `at_once` tiles."""
        tiles = min(at_once, len(self.tiles)) * self.first_tile.nbytes if self.first_tile else 0
        return self.canvas.nbytes + (self.image.pixels.nbytes if self.image else 0) + tiles


class Preparation:
    """Decodes, resizes, cuts and draws images on `threads`."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        self._limits = decoder.Limits(settings.max_pixels, settings.truncated_images)
        memory = DecodeMemory(settings.max_queue_bytes // 2)
        self.threads = DecodeThreads(settings.decode_threads or os.cpu_count() or 1, memory, metrics)

    def close(self) -> None:
        """Start no new work; does not wait for running work."""
        self.threads.close()

    async def prepare(self, source: Source, plan: Plan, request: RequestHandle, grow: Grow) -> PreparedImage:
        """Decode, resize and pad, with memory that `grow` holds meanwhile; raises ServiceError."""
        try:
            prepared = await self.threads.decode(plan, request, grow, partial(self._prepare, source, plan))
        except decoder.ImageError as error:
            raise from_image_error(error) from error
        except TooManyTiles as error:
            raise InvalidParameter(f"tile={plan.tiling.side if plan.tiling else None}: {error}") from error
        except asyncio.CancelledError:
            if request.mark_finished():
                self._metrics.cancelled.inc()
            raise
        durations = self._metrics.stage_duration
        durations.labels(stage="decode", model=plan.model.name).observe(prepared.seconds)
        return prepared

    def _prepare(self, source: Source, plan: Plan, control: DecodeControl) -> PreparedImage:
        started = time.monotonic()
        image, tiles = self._read(source, plan, control)
        control.check()
        prepare = plan.model.prepare
        canvas = prepare(image, plan.size, plan.upscale)
        first_tile = prepare(cut(image, tiles[0]), plan.size, plan.upscale) if tiles else None
        seconds = time.monotonic() - started
        kept = self._full_image(image, source, plan, control) if plan.draw or tiles else None
        size = (image.width, image.height)
        return PreparedImage(size, canvas, kept, seconds, tiles, first_tile, image.truncated)

    def _read(self, source: Source, plan: Plan, control: DecodeControl) -> tuple[Image, tuple[Tile, ...]]:
        """The image and its tiles, which need all of its pixels; without tiles a draft may be enough."""
        model = plan.model
        enough = model.card.draft_limits(plan.size)
        if plan.tiling:
            image = decoder.read(source, self._limits, control=control)
            if tiles := model.tiles((image.width, image.height), plan.size, plan.tiling):
                return image, tiles
        return decoder.read(source, self._limits, enough, control), ()

    def _full_image(self, image: Image, source: Source, plan: Plan, control: DecodeControl) -> Image:
        """The image with all of its pixels, for drawing or tiles; raises InvalidParameter."""
        if plan.draw == "jpeg" and max(image.width, image.height) > drawing.MAX_JPEG_SIDE:
            raise InvalidParameter(
                f"format=jpeg: the image has {image.width} x {image.height} pixels; a side of a JPEG may "
                f"have at most {drawing.MAX_JPEG_SIDE}; use format=png"
            )
        return decoder.read(source, self._limits, control=control) if image.draft and plan.draw else image

    async def tile(self, prepared: PreparedImage, tile: Tile, plan: Plan, request: RequestHandle) -> Canvas:
        """The canvas of one tile of an image."""
        if prepared.first_tile is not None and tile is prepared.tiles[0]:
            return prepared.first_tile
        if prepared.image is None:
            raise RuntimeError("an image with tiles keeps its pixels until the last one is cut")
        return await self.run(plan, request, self._cut, prepared.image, tile, plan)

    def _cut(self, image: Image, tile: Tile, plan: Plan) -> Canvas:
        return plan.model.prepare(cut(image, tile), plan.size, plan.upscale)

    async def draw(
        self, prepared: PreparedImage, detections: Detections, plan: Plan, request: RequestHandle
    ) -> bytes | None:
        """The image with its detections drawn on it, as a file; None where the plan asks for none."""
        if prepared.image is None or plan.draw is None:
            return None
        labels = plan.model.card.labels
        return await self.run(plan, request, drawing.encode, prepared.image, detections, labels, plan.draw)

    async def run(
        self, plan: Plan, request: RequestHandle, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run work on a thread within the plan's time; raises DeadlineExceeded or Overloaded."""
        return await self.threads.run(plan, request, work, *args, **kwargs)


def canvas_too_large(canvas: Canvas) -> ImageTooLarge:
    """The error of a canvas that does not fit into the device's memory, alone in its batch."""
    height, width = canvas.key
    return ImageTooLarge(
        f"a canvas of {width} x {height} px does not fit into the device; give a smaller `size`"
    )

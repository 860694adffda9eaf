"""An image in tiles: each is a job in the ordinary queue, and their detections become one answer.

Few of them wait at once: enough to fill the next batch while one runs, so that a large image holds little
memory. The first that fails, or the request's end, takes all the others out of the queue.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from app.batching.item import Answered
from app.serving.interfaces import Canvas
from app.serving.model import Inferred
from models.detections import Detections
from models.options import Options
from models.tiling.tiles import Tile, merge, tile_options

BATCHES = 2  # whose tiles are prepared at once: one that runs, one that is next


@dataclass(frozen=True)
class Steps:
    """What becomes of a tile: its canvas is made, then inferred; `done` follows each of them."""

    prepare: Callable[[Tile], Awaitable[Canvas]]
    infer: Callable[[Canvas, Options], Awaitable[Answered[Inferred]]]
    merge: Callable[[Callable[[], Detections]], Awaitable[Detections]]  # on a thread
    done: Callable[[], None]


async def infer_tiles(
    whole: Canvas, tiles: Sequence[Tile], options: Options, steps: Steps, at_once: int
) -> Answered[Inferred]:
    """One answer from the whole image and its tiles, `at_once` of them at a time; raises the first error.

    Its times: until the first one ran, and from then to the merged answer.
    """
    started = time.monotonic()
    asked = tile_options(options)
    room = asyncio.Semaphore(at_once)

    async def infer(canvas: Canvas) -> Answered[Inferred]:
        answered = await steps.infer(canvas, asked)
        steps.done()
        return answered

    async def infer_tile(tile: Tile) -> Answered[Inferred]:
        async with room:
            return await infer(await steps.prepare(tile))

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(infer(whole))]
            tasks += [group.create_task(infer_tile(tile)) for tile in tiles]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    first, *others = [task.result() for task in tasks]
    parts = [answered.result.detections for answered in others]
    inferred = time.monotonic()
    found = await steps.merge(lambda: merge(first.result.detections, parts, tiles, options))
    ended = time.monotonic()
    queued = min(first.queued, *(answered.queued for answered in others))
    return Answered(Inferred(found, ended - inferred), queued, ended - started - queued)

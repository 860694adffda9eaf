"""An image in tiles: each is a job in the ordinary queue, and their detections become one answer.

Only few of them are prepared at once: enough to fill the next batch while one runs, so that a large image
holds little memory. The first that fails, or the request's end, removes all the others from the queue.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from app.batching.item import Completed
from app.serving.interfaces import Canvas
from app.serving.model import InferenceResult
from app.serving.preparation import PreparedImage
from models.detections import Detections
from models.options import Options
from models.tiling.tiles import Tile, merge, tile_options

BATCHES = 2  # whose tiles are prepared at once: one that runs, one that is next

Infer = Callable[[Canvas, Options], Awaitable[Completed[InferenceResult]]]


async def infer_tiles(
    prepared: PreparedImage,
    options: Options,
    cut: Callable[[int], Awaitable[Canvas]],
    infer: Infer,
    at_once: int,
) -> list[Completed[InferenceResult]]:
    """Results of the whole image, then of each tile, `at_once` of them at a time; raises the first error.

    `cut` makes the canvas of a tile by its index.
    """
    per_tile = tile_options(options)
    free = asyncio.Semaphore(at_once)

    async def infer_tile(index: int) -> Completed[InferenceResult]:
        async with free:
            return await infer(await cut(index), per_tile)

    async def infer_whole() -> Completed[InferenceResult]:
        return await infer(prepared.canvas, per_tile)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(infer_whole())]
            tasks += [group.create_task(infer_tile(index)) for index in range(len(prepared.tiles))]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return [task.result() for task in tasks]


def merge_tiles(
    parts: Sequence[Completed[InferenceResult]], tiles: Sequence[Tile], options: Options
) -> Detections:
    """The detections of the whole image and of its tiles as one answer."""
    whole, *per_tile = [part.result.detections for part in parts]
    return merge(whole, per_tile, tiles, options)

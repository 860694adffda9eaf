"""Detects one image in tiles or mirrored in this process: the service's answer without its queue.

detections = detect_tiled(detector, image, options, Tiling())  # auto; Tiling(512) for tiles of 512 px
"""

from collections.abc import Sequence

from models.detections import Detections
from models.detector import Detector, Job
from models.images.decoder import Image
from models.options import Options
from models.tiling.tiles import ResizeLimits, Tile, Tiling, cut, merge, tile_options, tiles_of


def tiles_for(detector: Detector, image: Image, tiling: Tiling, size: int | None = None) -> tuple[Tile, ...]:
    """The image's tiles for this detector, none if it needs only one; raises TooManyTiles.

    `size`: short side in px to which images and tiles are resized, as in `detector.prepare`.
    """
    return tiles_of((image.width, image.height), tiling, ResizeLimits(*detector.card.canvas_limits(size)))


def detect_tiled(
    detector: Detector,
    image: Image,
    options: Options,
    tiling: Tiling,
    size: int | None = None,
    batch: int = 1,
) -> Detections:
    """The image's detections, `batch` tiles at a time; raises TooManyTiles, MemoryError.

    If the image needs only one view, the result equals `detector.detect` of the image exactly.
    """
    tiles = tiles_for(detector, image, tiling, size)
    if not tiles:
        return detector.detect([Job(detector.prepare(image, size), options)])[0]
    per_tile = tile_options(options)
    found: list[Detections] = []
    for start in range(0, 1 + len(tiles), batch):
        views = (
            image if tile is None else cut(image, tile) for tile in (None, *tiles)[start : start + batch]
        )
        found += _detect(detector, [Job(detector.prepare(view, size), per_tile) for view in views])
    whole, *parts = found
    return merge(whole, parts, tiles, options)


def _detect(detector: Detector, jobs: Sequence[Job]) -> list[Detections]:
    """The detections of each job; those with the same canvas size share a batch."""
    found: dict[int, Detections] = {}
    for key in {job.canvas.key: None for job in jobs}:
        chosen = [index for index, job in enumerate(jobs) if job.canvas.key == key]
        found |= zip(chosen, detector.detect([jobs[index] for index in chosen]), strict=True)
    return [found[index] for index in range(len(jobs))]

"""Detects one image in tiles in this process: the service's answer without its queue.

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

    If the image needs only one tile, the result equals `detector.detect` of the image exactly.
    """
    tiles = tiles_for(detector, image, tiling, size)

    def detect(images: Sequence[Image], options: Options) -> list[Detections]:
        return detector.detect([Job(detector.prepare(image, size), options) for image in images])

    if not tiles:
        return detect([image], options)[0]
    per_tile = tile_options(options)
    [whole] = detect([image], per_tile)
    parts: list[Detections] = []
    for start in range(0, len(tiles), batch):
        parts += detect([cut(image, tile) for tile in tiles[start : start + batch]], per_tile)
    return merge(whole, parts, tiles, options)

"""A detector asked about one image in tiles, in this process: the service's answer without its queue.

found = detect_tiled(detector, image, options, Tiling())  # auto; Tiling(512) for tiles of 512 px
"""

from collections.abc import Sequence

from models.detections import Detections
from models.detector import Detector, Job
from models.images.decoder import Image
from models.options import Options
from models.tiling.tiles import ResizeLimits, Tile, Tiling, cut, merge, tile_options, tiles_of


def tiles_for(detector: Detector, image: Image, tiling: Tiling, size: int | None = None) -> tuple[Tile, ...]:
    """The image's tiles for this detector, none where it needs no more than one; raises TooManyTiles.

    `size`: px of the short side at which images and tiles are seen, as of `detector.prepare`.
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

    Where the image needs one tile this is `detector.detect` of the image, to the bit.
    """
    tiles = tiles_for(detector, image, tiling, size)

    def detect(seen: Sequence[Image], asked: Options) -> list[Detections]:
        return detector.detect([Job(detector.prepare(one, size), asked) for one in seen])

    if not tiles:
        return detect([image], options)[0]
    asked = tile_options(options)
    [whole] = detect([image], asked)
    parts: list[Detections] = []
    for start in range(0, len(tiles), batch):
        parts += detect([cut(image, tile) for tile in tiles[start : start + batch]], asked)
    return merge(whole, parts, tiles, options)

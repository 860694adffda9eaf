"""A detector asked about one image in tiles, in this process: the service's answer without its queue.

found = detect_tiled(detector, image, options, Tiling())  # auto; Tiling(512) for tiles of 512 px
"""

from collections.abc import Sequence

from models.detections import Detections
from models.detector import Detector, Job
from models.images import Image
from models.options import Options
from models.tiles import Sight, Tile, Tiling, cut, merge, tile_options, tiles_of


def tiles_for(detector: Detector, image: Image, tiling: Tiling) -> tuple[Tile, ...]:
    """The image's tiles for this detector; none where it needs no more than one. Raises TooManyTiles."""
    sight = Sight(detector.card.min_size, detector.card.max_size)
    return tiles_of((image.width, image.height), tiling, sight)


def detect_tiled(
    detector: Detector, image: Image, options: Options, tiling: Tiling, batch: int = 1
) -> Detections:
    """The image's detections, `batch` tiles at a time; raises TooManyTiles, MemoryError.

    Where the image needs one tile this is `detector.detect` of the image, to the bit.
    """
    tiles = tiles_for(detector, image, tiling)
    if not tiles:
        return detector.detect([Job(detector.prepare(image), options)])[0]
    asked = tile_options(options)
    [whole] = detector.detect([Job(detector.prepare(image), asked)])
    parts: list[Detections] = []
    for start in range(0, len(tiles), batch):
        parts += _detect(detector, image, tiles[start : start + batch], asked)
    return merge(whole, parts, tiles, options)


def _detect(detector: Detector, image: Image, tiles: Sequence[Tile], options: Options) -> list[Detections]:
    return detector.detect([Job(detector.prepare(cut(image, tile)), options) for tile in tiles])

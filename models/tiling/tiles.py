"""Tiles of a large image, and mirror images: computes these views and merges their detections. No torch.

All tiles of an image have one size, so that their canvases share batches, and overlap by at least a share of
their side. The network also sees the whole image, for objects larger than the overlap.

An object that fits into the overlap lies completely in some tile. So a box that ends at a tile border inside
the image is dropped: it is a part of an object that a neighbour or the whole image shows completely. AP on
drawn scenes: small objects 0.542, 0.526 with NMS alone, and keeping or joining parts that no box covers was
no better; medium objects 0.843, 0.856 with NMS alone, with a third fewer false detections.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.detections import Detections
from models.images.decoder import Image
from models.options import Options

SMALLEST_SIDE, LARGEST_SIDE = 64, 8192  # of a tile, px
LARGEST_OVERLAP = 0.5
OVERLAP = 0.2
MOST_TILES = 64  # of an image: each takes a slot of the queue and the time of an image
MOST_DETECTIONS = 1000  # of a tile: the request's own limit applies to the merged answer
MOST_MERGED = 5000  # boxes, the best ones: bounds the time of the merge for any thresholds
TOO_SMALL = 0.5  # canvas px per image px below which `auto` tiles: 32 px become 16, half the smallest anchor
TOUCHING = 1 / 64  # of a tile's side: a box this close to a border counts as cut by it

Boxes = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


class TooManyTiles(ValueError):
    """The image needs more tiles than allowed; the text says which side is large enough."""


@dataclass(frozen=True)
class Tiling:
    """A request for tiles: their side in image px (None: auto), minimum overlap, and maximum number.

    `flip`: the mirror image of the image and of each tile, too. `cut`: False for no tiles, to flip alone.
    """

    side: int | None = None
    overlap: float = OVERLAP
    most: int = MOST_TILES
    flip: bool = False
    cut: bool = True


@dataclass(frozen=True)
class ResizeLimits:
    """The network's input size: short side in px, and the limit of the long side."""

    min_size: int
    max_size: int

    def scale(self, width: int, height: int) -> float:
        """Canvas px per image px."""
        return min(self.min_size / min(width, height), self.max_size / max(width, height))


@dataclass(frozen=True)
class Tile:
    """A part of an image, in its pixels, or the mirror image of that part."""

    left: int
    top: int
    width: int
    height: int
    mirrored: bool = False

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2."""
        return self.left, self.top, self.left + self.width, self.top + self.height


def tiles_of(size: tuple[int, int], tiling: Tiling, limits: ResizeLimits) -> tuple[Tile, ...]:
    """The tiles of an image of that (width, height), row by row; none if it needs only one.

    With `flip` the mirror images of these tiles and of the whole image follow. `auto` takes the side
    at which the network sees every pixel, or a larger one if those would be too many tiles; no tiles if the
    resized whole image keeps enough detail. Raises TooManyTiles for an explicit side.
    """
    tiles = _cut_into(size, tiling, limits) if tiling.cut else ()
    if not tiling.flip:
        return tiles
    return (*tiles, *(replace(tile, mirrored=True) for tile in (*tiles, Tile(0, 0, *size))))


def _cut_into(size: tuple[int, int], tiling: Tiling, limits: ResizeLimits) -> tuple[Tile, ...]:
    width, height = size
    side = tiling.side
    if side is None:
        if limits.scale(width, height) >= TOO_SMALL:
            return ()
        side = _least_side(size, tiling, limits.min_size)
    columns, rows = _starts(width, side, tiling.overlap), _starts(height, side, tiling.overlap)
    count = len(columns) * len(rows)
    if count == 1:
        return ()
    if count > tiling.most:
        raise TooManyTiles(
            f"{count} tiles of {side} px would cover {width} x {height} px; at most {tiling.most} may: "
            f"give a side of {_least_side(size, tiling, side)} or more, or auto, or a smaller overlap"
        )
    return tuple(Tile(x, y, min(side, width), min(side, height)) for y in rows for x in columns)


def cut(image: Image, tile: Tile) -> Image:
    """The tile as an image; the pixels are copied."""
    x1, y1, x2, y2 = tile.corners
    pixels = image.pixels[y1:y2, x1:x2]
    return Image(np.ascontiguousarray(pixels[:, ::-1] if tile.mirrored else pixels), image.format)


def tile_options(options: Options) -> Options:
    """The options of each tile: the request's, without what applies to the merged answer after NMS."""
    return replace(options, max_detections=MOST_DETECTIONS, min_area=0.0, roi=None)


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """The starts of the tiles along a side of the image, evenly spaced."""
    if length <= side:
        return [0]
    gaps = math.ceil((length - side) / max(1, math.floor(side * (1 - overlap))))
    return [round(index * (length - side) / gaps) for index in range(gaps + 1)]


def _least_side(size: tuple[int, int], tiling: Tiling, least: int) -> int:
    """The smallest side, at least `least`, that needs no more tiles than allowed."""
    low, high = least, max(least, *size)
    while low < high:
        middle = (low + high) // 2
        count = math.prod(len(_starts(length, middle, tiling.overlap)) for length in size)
        low, high = (low, middle) if count <= tiling.most else (middle + 1, high)
    return low


def merge(
    whole: Detections, parts: Sequence[Detections], tiles: Sequence[Tile], options: Options
) -> Detections:
    """Merge the detections of the whole image and of each tile (in the tile's pixels), in image pixels.

    Drops boxes cut by an inner border, then applies NMS to all with the request's threshold, then its limit.
    """
    parts = [_upright(part, tile) for part, tile in zip(parts, tiles, strict=True)]
    cuts = [_cut_off(part.boxes, tile, tiles) for part, tile in zip(parts, tiles, strict=True)]
    views = [whole, *(_moved(part, tile, mask) for part, tile, mask in zip(parts, tiles, cuts, strict=True))]
    boxes = np.concatenate([view.boxes for view in views])
    labels = np.concatenate([view.labels for view in views])
    scores = np.concatenate([view.scores for view in views])
    order = np.argsort(-scores, kind="stable")[:MOST_MERGED]
    groups = np.zeros_like(labels) if options.class_agnostic else labels
    size = max(tile.corners[2] for tile in tiles), max(tile.corners[3] for tile in tiles)
    kept = options.kept(boxes[order], size)
    best = order[_suppress(boxes[order], groups[order], kept, options)]
    return Detections(boxes[best], labels[best], scores[best])


def _upright(part: Detections, tile: Tile) -> Detections:
    """The detections in a tile's mirror image, in the pixels of the tile as it is."""
    if not tile.mirrored:
        return part
    boxes = part.boxes.copy()
    boxes[:, [0, 2]] = tile.width - part.boxes[:, [2, 0]]
    return Detections(boxes, part.labels, part.scores)


def _cut_off(boxes: Boxes, tile: Tile, tiles: Sequence[Tile]) -> Mask:
    """Mask of a tile's boxes, in its own pixels, that end at a border inside the image."""
    (x1, y1, x2, y2), touching = tile.corners, TOUCHING * max(tile.width, tile.height)
    ends = np.array([tile.width, tile.height]) - touching
    at_low, at_high = boxes[:, :2] <= touching, boxes[:, 2:] >= ends
    more_low = [x1 > 0, y1 > 0]
    more_high = [any(other.corners[2] > x2 for other in tiles), any(other.corners[3] > y2 for other in tiles)]
    cut_off: Mask = np.any((at_low & more_low) | (at_high & more_high), axis=1)
    return cut_off


def _moved(part: Detections, tile: Tile, left_out: Mask) -> Detections:
    """A tile's detections without those left out, in the image's pixels."""
    place = np.array([tile.left, tile.top] * 2, np.float32)
    return Detections(part.boxes[~left_out] + place, part.labels[~left_out], part.scores[~left_out])


def _suppress(
    boxes: Boxes, groups: npt.NDArray[np.int64], wanted: Mask, options: Options
) -> npt.NDArray[np.intp]:
    """Indices kept by NMS within groups, those of `wanted` boxes; the boxes are sorted best first.

    Stops at the request's limit, so the limit and not the number of boxes determines the time.
    """
    order = np.arange(len(boxes))
    kept: list[int] = []
    while order.size and len(kept) < options.max_detections:
        best, order = order[0], order[1:]
        if wanted[best]:
            kept.append(int(best))
        shared = _shared(boxes[best], boxes[order])
        union = _areas(boxes[best][None]) + _areas(boxes[order]) - shared
        order = order[(groups[order] != groups[best]) | (shared <= options.nms_threshold * union)]
    return np.array(kept, np.intp)


def _shared(box: Boxes, boxes: Boxes) -> Boxes:
    """Intersection areas (N,) of a box with others (N, 4)."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared: Boxes = (high - low).clip(min=0).prod(axis=1)
    return shared


def _areas(boxes: Boxes) -> Boxes:
    areas: Boxes = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return areas

"""Regions of interest: which boxes have their centre in one of a request's regions. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Regions:
    """Polygons of one request: x, y, x, y, … of their corners, two of them for a rectangle.

    In pixels of the image as displayed, or in fractions of its width and height.
    """

    polygons: tuple[tuple[float, ...], ...]
    fractions: bool = False

    def contain(self, boxes: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """Mask (N,) of the boxes (N, 4) xyxy px whose centre is in a region; `size`: the image's (w, h).

        A centre on a border that two regions share is in one of them only.
        """
        centres = (boxes[:, :2].astype(np.float64) + boxes[:, 2:]) / 2
        scale = np.array(size if self.fractions else (1, 1), np.float64)
        inside = np.zeros(len(boxes), np.bool_)
        for polygon in self.polygons:
            inside |= _inside(centres, _corners(polygon) * scale)
        return inside


def _corners(polygon: Sequence[float]) -> npt.NDArray[np.float64]:
    """The corners (K, 2) of a polygon."""
    if len(polygon) == 4:
        left, top, right, bottom = polygon
        polygon = (left, top, right, top, right, bottom, left, bottom)
    return np.array(polygon, np.float64).reshape(-1, 2)


def _inside(points: npt.NDArray[np.float64], corners: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Mask of the points (N, 2) from which a ray to the right crosses the border an odd number of times."""
    x, y = points[:, :1], points[:, 1:]
    (x1, y1), (x2, y2) = corners.T, np.roll(corners, -1, axis=0).T
    height = np.where(y1 == y2, 1.0, y2 - y1)  # a level edge is never crossed
    crossed = ((y1 > y) != (y2 > y)) & (x < x1 + (y - y1) / height * (x2 - x1))
    odd: npt.NDArray[np.bool_] = crossed.sum(axis=1) % 2 == 1
    return odd

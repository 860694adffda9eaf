"""Selective Search (Uijlings et al. 2013): proposals by grouping similar segments, without a network."""

from types import ModuleType

import numpy as np
import numpy.typing as npt

from models.images.decoder import Pixels

# px; the method is not scale invariant, so R-CNN's own code resizes every image to this width first
WIDTH = 500
HIGHEST = 1000
SEED = 0

Boxes = npt.NDArray[np.float32]


class SelectiveSearchMissing(RuntimeError):
    """OpenCV, or its contrib part, is not installed; the message says what to install."""


def selective_search(pixels: Pixels, limit: int) -> Boxes:
    """Proposals (N, 4) xyxy px, N <= `limit`, of an RGB image (H, W, 3), in the paper's fast mode.

    The same image gives the same proposals, in the same order. Raises SelectiveSearchMissing.
    """
    segmentation = load_segmentation()
    search = segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(_scaled(pixels))
    search.switchToSelectiveSearchFast()
    boxes = np.asarray(search.process(), np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    ratio = np.array(pixels.shape[1::-1], np.float32) / np.array(_scaled_size(pixels), np.float32)
    return np.asarray(_ranked(boxes)[:limit] * np.tile(ratio, 2), np.float32)


def load_segmentation() -> ModuleType:
    """OpenCV's module of Selective Search; raises SelectiveSearchMissing."""
    try:
        from cv2.ximgproc import segmentation
    except ImportError as error:
        raise SelectiveSearchMissing(
            "Selective Search needs OpenCV's contrib part; install it: pip install 'rcnn-serve[lineage]'"
        ) from error
    return segmentation


def _scaled_size(pixels: Pixels) -> tuple[int, int]:
    """Width and height of the image that is searched."""
    height, width = (int(side) for side in pixels.shape[:2])
    scale = min(WIDTH / width, HIGHEST / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _scaled(pixels: Pixels) -> Pixels:
    """The image in OpenCV's channel order, BGR, resized to `_scaled_size`."""
    import cv2

    size = _scaled_size(pixels)
    how = cv2.INTER_AREA if pixels.shape[1] > size[0] else cv2.INTER_LINEAR
    return np.ascontiguousarray(cv2.resize(pixels, size, interpolation=how)[..., ::-1], np.uint8)


def _ranked(boxes: Boxes) -> Boxes:
    """Boxes in the paper's order: rank from the top of the hierarchy, times a random number in 0..1.

    OpenCV finds the same boxes each time, but draws the random numbers from the C library's `rand()`, whose
    state the whole process shares. So the order is computed here: the rank by area, the numbers from a seed.
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    ordered = boxes[np.lexsort((*boxes.T, -area))]
    rank = np.random.default_rng(SEED).random(len(ordered)) * np.arange(1, len(ordered) + 1)
    return ordered[np.argsort(rank, kind="stable")]

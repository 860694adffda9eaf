"""Annotated images, as which every format is read, for training and evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.datasets.faults import AnnotationReport

Format = Literal["coco", "voc", "yolo", "cvat", "labelme", "via", "csv"]
BACKGROUND = "background"


class DatasetError(ValueError):
    """A dataset that cannot be used; the text says what was expected and what is allowed."""


class DataOptionError(DatasetError):
    """An option that does not fit the dataset, such as a class that it does not have."""


class NoSplitError(DatasetError):
    """The dataset has no split of that name; `available`: those it has; `reason`: if it should have it."""

    def __init__(self, text: str, available: tuple[str, ...], reason: str = "") -> None:
        super().__init__(text)
        self.available = available
        self.reason = reason


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """An image file and its objects, N >= 0.

    width and height are of the image as displayed (EXIF orientation applied), in pixels. boxes float32 (N, 4)
    xyxy in these pixels, inside the image and with an area; labels int64 (N,) from 1, an index of
    Dataset.labels; crowd bool (N,): ignored in training and evaluation (iscrowd of COCO, difficult of VOC).
    difficult bool (N,): VOC's among `crowd`; areas (N,) px², NaN where only the box is known; id: of COCO.
    """

    path: Path
    width: int
    height: int
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    crowd: npt.NDArray[np.bool_]
    difficult: npt.NDArray[np.bool_] | None = None
    areas: npt.NDArray[np.float64] | None = None
    id: int | str | None = None
    counts_from_one: bool = False  # as VOC's own files do
    written: "AnnotatedImage | None" = None  # with all boxes as the files have them, where these differ

    def __post_init__(self) -> None:
        count = len(self.labels)
        shapes = (self.boxes.shape, self.labels.shape, self.crowd.shape)
        if shapes != ((count, 4), (count,), (count,)):
            raise ValueError(f"boxes, labels, crowd have shapes {shapes}; they must be (N, 4), (N,), (N,)")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Class names ("background" first), images in the order of the files, the faults, the format.

    category_ids: the ids of COCO's categories by class name, of other formats none.
    """

    labels: tuple[str, ...]
    images: tuple[AnnotatedImage, ...]
    report: AnnotationReport
    format: Format
    category_ids: Mapping[str, int] = field(default_factory=dict)

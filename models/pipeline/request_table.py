"""What a batch's requests ask for, as one table on the device: a row a request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.ops.fixed_nms import highest_float
from models.options import Options

NONE = float("inf")  # a score threshold that no score exceeds: the background, and classes not asked for
OTHERS = 6  # columns after the class thresholds


@dataclass(frozen=True, eq=False)
class RequestTable:
    """Rows (B, K + 6): score threshold a class, NMS threshold, 1 if classes suppress separately, limits.

    The limits are those of the boxes: width, height, width, height of the image on the canvas.
    """

    rows: Tensor
    options: Sequence[Options]

    @property
    def thresholds(self) -> Tensor:
        """(B, K): the score that a class's detection must exceed."""
        return self.rows[:, :-OTHERS]

    @property
    def nms(self) -> Tensor:
        """(B, 1): the highest overlap of two kept boxes of a class."""
        return self.rows[:, -OTHERS:][:, :1]

    @property
    def separate(self) -> Tensor:
        """(B, 1): 1 if each class suppresses its own boxes only, 0 if every class suppresses all."""
        return self.rows[:, -OTHERS:][:, 1:2]

    @property
    def limits(self) -> Tensor:
        """(B, 4): the largest coordinates of boxes xyxy, canvas px."""
        return self.rows[:, -4:]


def request_table(
    contents: Sequence[tuple[int, int]],
    options: Sequence[Options],
    classes: int,
    send: Callable[[Tensor], Tensor] = lambda tensor: tensor,
) -> RequestTable:
    """The table for images of these (height, width) on the canvas; `send` copies it to the device."""
    rows = torch.tensor([_row(*request, classes) for request in zip(contents, options, strict=True)])
    return RequestTable(send(rows), options)


def _row(content: tuple[int, int], options: Options, classes: int) -> list[float]:
    asked = range(classes) if options.classes is None else options.classes
    floors = [options.score_threshold if label in asked and label > 0 else NONE for label in range(classes)]
    height, width = content
    separate = 0.0 if options.class_agnostic else 1.0
    return [*floors, highest_float(options.nms_threshold), separate, width, height, width, height]

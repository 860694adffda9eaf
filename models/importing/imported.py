"""What an importer finds in a checkpoint: the weights under our names, and the keys of the card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from models.checkpoints.recognise import State, need
from models.zoo.cards import UNUSED_LABEL
from models.zoo.coco_labels import COCO_LABELS

COCO_CLASSES = tuple(label for label in COCO_LABELS[1:] if label != UNUSED_LABEL)  # the 80 that are annotated

LARGER_THAN_ZERO = 1e-6  # px; both libraries keep proposals whose sides are larger than 0


@dataclass(frozen=True, eq=False)
class Imported:
    """Keys of the card without name, weights and labels; sections are tables. `notes` tell the user."""

    source: str
    architecture: str
    state: State
    classes: Sequence[str] | None  # without the background; None: unknown
    class_count: int
    keys: Mapping[str, Any]
    sections: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...] = field(default=())


def background_first(rows: Tensor) -> Tensor:
    """Class scores with the background's row last, as ours: first."""
    return torch.cat([rows[-1:], rows[:-1]])


def with_background(rows: Tensor) -> Tensor:
    """Box deltas of classes, preceded by zeros for the background."""
    return torch.cat([rows.new_zeros(4, *rows.shape[1:]), rows])


def convert_predictor(state: State, prefix: str = "roi_heads.box_predictor.") -> State:
    """The state with the box predictor's rows in our order; a class-agnostic one has four box rows."""
    converted = dict(state)
    for kind in ("weight", "bias"):
        scores, boxes = f"{prefix}cls_score.{kind}", f"{prefix}bbox_pred.{kind}"
        converted[scores] = background_first(need(state, scores))
        if len(need(state, boxes)) != 4:
            converted[boxes] = with_background(state[boxes])
    return converted

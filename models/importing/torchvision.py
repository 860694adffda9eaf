"""torchvision: checkpoints of its reference scripts, of Lightning and of a user's own training."""

from collections.abc import Mapping
from typing import Any

from models.checkpoints.placeholders import fields_of
from models.checkpoints.recognise import MOBILE_FPN, State, need, recognise
from models.importing.imported import Imported
from models.zoo.coco_labels import COCO_LABELS

MOBILE_320 = "mobilenet_v3_large_320_fpn"
BUILDER = "fasterrcnn_"  # prefix of torchvision's builders, as in the reference scripts' `--model`


def convert(state: State, content: object) -> Imported:
    """The network of a state dict with torchvision's names; raises CheckpointError."""
    arguments = _arguments(content)
    architecture = recognise(state)
    if architecture == MOBILE_FPN and arguments.get("model") == BUILDER + MOBILE_320:
        architecture = MOBILE_320
    count = len(need(state, "roi_heads.box_predictor.cls_score.weight")) - 1
    keys: dict[str, Any] = {}
    if architecture == MOBILE_320:
        keys = {"min_size": 320, "max_size": 640}
    keys |= {
        key: arguments[key]
        for key in ("min_size", "max_size")
        if type(arguments.get(key)) is int and arguments[key] >= 64
    }
    return Imported(
        source="torchvision",
        architecture=architecture,
        state=state,
        classes=COCO_LABELS[1:] if count == len(COCO_LABELS) - 1 else None,
        class_count=count,
        keys=keys,
        sections={},
        notes=_notes(architecture),
    )


def _arguments(content: object) -> Mapping[str, Any]:
    """The arguments of the reference scripts, or the hyper-parameters of Lightning."""
    fields = fields_of(content)
    return {**fields_of(fields.get("hyper_parameters")), **fields_of(fields.get("args"))}


def _notes(architecture: str) -> tuple[str, ...]:
    notes = [
        "anchors, sizes and normalisation are torchvision's defaults: a network that was trained with others "
        "needs [anchors], min_size, max_size and [preprocessing] in the card"
    ]
    if architecture == MOBILE_FPN:
        notes.append(
            f"{MOBILE_FPN} and {MOBILE_320} have the same weights: set architecture to the one it is"
        )
    return tuple(notes)

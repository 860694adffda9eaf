"""What `rcnn COMMAND --help` shows beside each option: groups of options, and commands to copy."""

import inspect
from collections.abc import Mapping
from copy import copy
from typing import Annotated, Any, get_args, get_origin

from typer.models import OptionInfo

USE, LEARN, MODELS, MACHINE = "Detect", "Train and measure", "Models", "This installation"
"""The groups of commands."""

_OPTIONS = {
    "Detections": "score_threshold nms_threshold max_detections classes min_area roi size tile "
    "tile_overlap every",
    "Through a service": "url api_key in_flight",
    "Data": "data data_option format boxes exif rename val_fraction split train_split val_split images count",
    "Augmentation": "flip turn scale whole zoom colour mosaic",
    "Learning": "epochs batch_size schedule optimizer learning_rate rate weight_decay clip_norm "
    "validate_every patience bfloat16 float16 free_norms seed",
    "Network": "model architecture start min_size max_size device engine precision threads",
    "Output": "save out json watch csv results plots metrics log name",
}
GROUP_OF = {name: group for group, names in _OPTIONS.items() for name in names.split()}
"""The group of an option, by its name; of some commands a few are of another group."""

_ELSEWHERE = {
    ("detect", "format"): "Output",
    ("detect", "flip"): "Detections",
    ("evaluate", "flip"): "Detections",
    **{("load", name): "Load" for name in ("rate", "connections", "seconds", "image", "model")},
}

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "serve": ("rcnn serve", "rcnn serve --host 0.0.0.0 --port 8080 --model shapes"),
    "detect": (
        "rcnn detect photo.jpg --save drawn",
        "rcnn detect photos --format coco --out photos.json",
        "rcnn detect photo.jpg --json --url http://127.0.0.1:8000",
    ),
    "train": (
        "rcnn train data --out runs/mine",
        "rcnn train data.zip --out runs/mine --epochs 30 --from coco-r50-fpn",
    ),
    "evaluate": (
        "rcnn evaluate data --model shapes --split val",
        "rcnn evaluate data --model shapes --csv classes.csv --plots plots",
    ),
    "diagnose": ("rcnn diagnose data --model shapes --split val",),
    "quantize": ("rcnn quantize --model shapes --images photos",),
    "import": ("rcnn import model_final.pth --config config.yaml --out models",),
    "export": (
        "rcnn export shapes --to onnx --out shapes.onnx",
        "rcnn export coco-r50-fpn --to torch --out coco.pth",
    ),
    "models": ("rcnn models", "rcnn models --json"),
    "settings": ("rcnn settings", "rcnn settings --env > .env"),
    "captures export": ("rcnn captures export --to coco --out labelled",),
    "doctor": ("rcnn doctor", "rcnn doctor --json"),
    "lineage": ("rcnn bench lineage --count 1",),
    "load": (
        "rcnn bench load http://127.0.0.1:8000 --rate 20",
        "rcnn bench load http://127.0.0.1:8000 --connections 8 --seconds 30",
    ),
}
"""Commands to copy, by command."""


def grouped(command: str, parameter: inspect.Parameter) -> inspect.Parameter:
    """The parameter of a command with the group of its option."""
    group = _ELSEWHERE.get((command, parameter.name), GROUP_OF.get(parameter.name))
    if group is None or get_origin(parameter.annotation) is not Annotated:
        return parameter
    kind, *details = get_args(parameter.annotation)
    return parameter.replace(annotation=Annotated[(kind, *(_with_group(item, group) for item in details))])


def _with_group(detail: Any, group: str) -> Any:
    if not isinstance(detail, OptionInfo):
        return detail
    detail = copy(detail)
    detail.rich_help_panel = group
    return detail


def epilog(command: str) -> str:
    """The examples of a command, a line each."""
    return "\n\n".join(("Examples:", *(f"  {line}" for line in EXAMPLES[command])))

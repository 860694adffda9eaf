"""detectron2's config.yaml, with the defaults of the library for what it leaves out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from models.checkpoints.errors import CheckpointError

MAX_BASES = 8  # files that build on one another
MISSING = object()

# Defaults of detectron2/config/defaults.py that answers depend on.
_DEFAULTS: dict[str, Any] = {
    "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
    "MODEL.MASK_ON": False,
    "MODEL.KEYPOINT_ON": False,
    "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675],
    "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.FPN.NORM": "",
    "MODEL.FPN.FUSE_TYPE": "sum",
    "MODEL.RESNETS.DEFORM_MODULATED": False,
    "MODEL.PROPOSAL_GENERATOR.NAME": "RPN",
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": 0,
    "MODEL.ANCHOR_GENERATOR.NAME": "DefaultAnchorGenerator",
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32, 64, 128, 256, 512]],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    "MODEL.ANCHOR_GENERATOR.OFFSET": 0.0,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 6000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.NMS_THRESH": 0.7,
    "MODEL.RPN.BBOX_REG_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
    "MODEL.ROI_HEADS.NAME": "Res5ROIHeads",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.5,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": [10.0, 10.0, 5.0, 5.0],
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 0,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignV2",
    "MODEL.ROI_BOX_HEAD.NUM_CONV": 0,
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": False,
    "INPUT.FORMAT": "BGR",
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
    "TEST.DETECTIONS_PER_IMAGE": 100,
}
# What Base-RCNN-FPN.yaml says instead.
_PYRAMID = {
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
}
_NO_CONFIG = (
    "no --config was given: detectron2's defaults are assumed for pixel mean and std, strides, anchors, "
    "thresholds and sizes"
)
_RESNEXT_STD = [57.375, 57.12, 58.395]  # of its X101 configuration


@dataclass(frozen=True)
class Config:
    """Values by dotted key; what is missing has the library's default."""

    values: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = (_NO_CONFIG,)

    def __call__(self, key: str, pyramid: bool = False) -> Any:
        """The value of a key; raises CheckpointError if it should be a table."""
        found: Any = self.values
        for part in key.split("."):
            if not isinstance(found, Mapping):
                raise CheckpointError(f"its configuration has no table above {key}")
            found = found.get(part, MISSING)
            if found is MISSING:
                return _PYRAMID[key] if pyramid and key in _PYRAMID else _DEFAULTS[key]
        return found

    def strides_in_1x1(self, resnext: bool) -> bool:
        """Whether a stage halves the map in its first 1x1 convolution; without a config, unless a ResNeXt."""
        resnets = self.values.get("MODEL", {}).get("RESNETS", {})
        return bool(resnets.get("STRIDE_IN_1X1", not resnext or bool(self.values)))


def without_config(resnext: bool) -> Config:
    """The library's defaults; a ResNeXt's pixels have a standard deviation."""
    return Config({"MODEL": {"PIXEL_STD": _RESNEXT_STD}} if resnext else {})


def read_config(path: Path) -> Config:
    """A config.yaml with the files it builds on; raises CheckpointError."""
    return Config(_read(path, MAX_BASES), ())


def _read(path: Path, bases: int) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: not a readable config.yaml of detectron2: {reason}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: not a config.yaml of detectron2: it has no keys")
    base = values.pop("_BASE_", None)
    if base is None:
        return values
    if bases == 0 or "://" in str(base):
        raise CheckpointError(
            f"{path}: its _BASE_ {base} cannot be followed; give the config.yaml of the run"
        )
    return _merged(_read(path.parent / str(base), bases - 1), values)


def _merged(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in values.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged

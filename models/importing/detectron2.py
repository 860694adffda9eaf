"""detectron2: its names, its layers' order and its configuration, as a card and weights of ours."""

import re
from collections.abc import Mapping
from typing import Any

from models.checkpoints.errors import CheckpointError
from models.checkpoints.recognise import State, blocks, need, resnet_name
from models.importing.detectron2_config import Config
from models.importing.imported import (
    COCO_CLASSES,
    LARGER_THAN_ZERO,
    Imported,
    convert_predictor,
)

# Patterns of its names and ours, tried in order; dropped where ours is empty.
_COMMON = (
    (r"proposal_generator\.rpn_head\.conv\.(?:conv0\.)?(weight|bias)$", r"rpn.head.conv.0.0.\1"),
    (r"proposal_generator\.rpn_head\.objectness_logits\.", "rpn.head.cls_logits."),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.", "rpn.head.bbox_pred."),
    (r"proposal_generator\.anchor_generator\..*", ""),
    (r"pixel_(mean|std)$", ""),
    (r"roi_heads\.box_head\.fc1\.", "roi_heads.box_head.fc6."),
    (r"roi_heads\.box_head\.fc2\.", "roi_heads.box_head.fc7."),
    (r"backbone\.bottom_up\.", "backbone."),
    (r"backbone\.fpn_lateral(\d)\.", lambda m: f"backbone.fpn.inner_blocks.{int(m[1]) - 2}.0."),
    (r"backbone\.fpn_output(\d)\.", lambda m: f"backbone.fpn.layer_blocks.{int(m[1]) - 2}.0."),
    (r"backbone\.stem\.conv1\.norm\.", "backbone.body.bn1."),
    (r"backbone\.stem\.", "backbone.body."),
    (r"backbone\.res(\d)\.", lambda m: f"backbone.body.layer{int(m[1]) - 1}."),
    (r"roi_heads\.res5\.", "roi_heads.box_head.layer4."),
    (r"\.shortcut\.norm\.", ".downsample.1."),
    (r"\.shortcut\.", ".downsample.0."),
    (r"\.conv(\d)\.norm\.", r".bn\1."),
)
RESIDUAL = "backbone.body.layer"


def convert(state: State, config: Config) -> Imported:
    """The network of a detectron2 checkpoint; raises CheckpointError."""
    _check(config)
    renamed = _renamed(state)
    neck = _neck(renamed)
    grouped = need(renamed, f"{RESIDUAL}1.0.conv2.weight")
    resnet = resnet_name(blocks(renamed, f"{RESIDUAL}3."), grouped)
    if config.strides_in_1x1(grouped.shape[0] != grouped.shape[1]):
        resnet += "_caffe"
    scores = need(renamed, "roi_heads.box_predictor.cls_score.weight")
    agnostic = len(need(renamed, "roi_heads.box_predictor.bbox_pred.weight")) == 4 and len(scores) > 2
    sections = _sections(config, neck)
    sections["head"]["class_agnostic"] = agnostic
    count = len(scores) - 1
    return Imported(
        source="detectron2",
        architecture=f"{resnet}_{neck}",
        state=convert_predictor(renamed),
        classes=COCO_CLASSES if count == len(COCO_CLASSES) else None,
        class_count=count,
        keys=_keys(config),
        sections=sections,
        notes=config.notes,
    )


def _renamed(state: State) -> State:
    renamed = {}
    for name, tensor in state.items():
        ours = name
        for pattern, replacement in _COMMON:
            ours = re.sub(pattern, replacement, ours)
        if ours:
            renamed[ours] = tensor
    return renamed


def _neck(state: State) -> str:
    if "roi_heads.box_head.layer4.0.conv1.weight" in state:
        return "c4"
    return "fpn" if any(name.startswith("backbone.fpn.") for name in state) else "dc5"


def _keys(config: Config) -> Mapping[str, Any]:
    return {
        "score_threshold": config("MODEL.ROI_HEADS.SCORE_THRESH_TEST"),
        "nms_threshold": config("MODEL.ROI_HEADS.NMS_THRESH_TEST"),
        "max_detections": config("TEST.DETECTIONS_PER_IMAGE"),
        "min_size": config("INPUT.MIN_SIZE_TEST"),
        "max_size": config("INPUT.MAX_SIZE_TEST"),
    }


def _sections(config: Config, neck: str) -> dict[str, dict[str, Any]]:
    pyramid = neck == "fpn"
    strides = [4.0, 8.0, 16.0, 32.0, 64.0] if pyramid else [16.0]
    sizes = config("MODEL.ANCHOR_GENERATOR.SIZES", pyramid)
    sizes = sizes * len(strides) if len(sizes) == 1 else sizes
    return {
        "preprocessing": {
            "mean": config("MODEL.PIXEL_MEAN"),
            "std": config("MODEL.PIXEL_STD"),
            "channels": str(config("INPUT.FORMAT")).lower(),
            "scale": 1,
            "resize": "pillow",
            "pad_to": 32 if pyramid else 1,
        },
        "anchors": {
            "sizes": sizes,
            "ratios": config("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"),
            "strides": strides,
            "offset": config("MODEL.ANCHOR_GENERATOR.OFFSET"),
            "rounded": False,
            "order": "size",
        },
        "rpn": {
            "pre_nms": config("MODEL.RPN.PRE_NMS_TOPK_TEST", pyramid),
            "post_nms": config("MODEL.RPN.POST_NMS_TOPK_TEST"),
            "nms_threshold": config("MODEL.RPN.NMS_THRESH"),
            "min_size": max(config("MODEL.PROPOSAL_GENERATOR.MIN_SIZE"), LARGER_THAN_ZERO),
            "rank_by": "logits",
        },
        "head": {
            "box_weights": config("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS"),
            "sampling_ratio": config("MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO"),
            "aligned": config("MODEL.ROI_BOX_HEAD.POOLER_TYPE") == "ROIAlignV2",
            "empty_boxes": "drop_last",
        },
    }


# Keys whose other values need other layers or arithmetic, and the values that are served.
_SUPPORTED: dict[str, tuple[object, ...]] = {
    "MODEL.META_ARCHITECTURE": ("GeneralizedRCNN",),
    "MODEL.MASK_ON": (False,),
    "MODEL.KEYPOINT_ON": (False,),
    "MODEL.BACKBONE.NAME": ("build_resnet_backbone", "build_resnet_fpn_backbone"),
    "MODEL.FPN.NORM": ("",),
    "MODEL.FPN.FUSE_TYPE": ("sum",),
    "MODEL.RESNETS.DEFORM_MODULATED": (False,),
    "MODEL.PROPOSAL_GENERATOR.NAME": ("RPN",),
    "MODEL.ANCHOR_GENERATOR.NAME": ("DefaultAnchorGenerator",),
    "MODEL.RPN.BBOX_REG_WEIGHTS": ((1.0, 1.0, 1.0, 1.0),),
    "MODEL.ROI_HEADS.NAME": ("Res5ROIHeads", "StandardROIHeads"),
    "MODEL.ROI_BOX_HEAD.NUM_CONV": (0,),
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": ("ROIAlign", "ROIAlignV2"),
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": (False,),
    "INPUT.FORMAT": ("BGR", "RGB"),
}


def _check(config: Config) -> None:
    for key, supported in _SUPPORTED.items():
        value = config(key)
        value = tuple(value) if isinstance(value, list) else value
        if value not in supported:
            allowed = " or ".join(map(repr, supported))
            raise CheckpointError(f"its configuration has {key} = {value!r}; only {allowed} can be served")

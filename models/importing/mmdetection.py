"""mmdetection 2.x and 3.x: its names, its layers' order and its configuration, as our card and weights."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from models.checkpoints.errors import CheckpointError
from models.checkpoints.placeholders import fields_of
from models.checkpoints.recognise import State, blocks, need, resnet_name
from models.importing.imported import (
    COCO_CLASSES,
    LARGER_THAN_ZERO,
    Imported,
    convert_predictor,
)
from models.importing.mmdetection_config import Config, parse_config

_NAMES = (
    (r"data_preprocessor\..*", ""),
    (r"backbone\.", "backbone.body."),
    (r"neck\.lateral_convs\.(\d)\.conv\.", r"backbone.fpn.inner_blocks.\1.0."),
    (r"neck\.fpn_convs\.(\d)\.conv\.", r"backbone.fpn.layer_blocks.\1.0."),
    (r"rpn_head\.rpn_conv\.", "rpn.head.conv.0.0."),
    (r"rpn_head\.rpn_cls\.", "rpn.head.cls_logits."),
    (r"rpn_head\.rpn_reg\.", "rpn.head.bbox_pred."),
    (r"roi_head\.bbox_head\.shared_fcs\.0\.", "roi_heads.box_head.fc6."),
    (r"roi_head\.bbox_head\.shared_fcs\.1\.", "roi_heads.box_head.fc7."),
    (r"roi_head\.bbox_head\.fc_cls\.", "roi_heads.box_predictor.cls_score."),
    (r"roi_head\.bbox_head\.fc_reg\.", "roi_heads.box_predictor.bbox_pred."),
)
STRIDES = [4, 8, 16, 32, 64]
GROWTH = 16 / 1000  # the largest change of size, in both libraries
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
CAFFE_MEAN, CAFFE_STD = [103.53, 116.28, 123.675], [1.0, 1.0, 1.0]


def convert(state: State, content: object, config: Config | None) -> Imported:
    """The network of an mmdetection checkpoint; raises CheckpointError."""
    meta = fields_of(fields_of(content).get("meta"))
    found = config or _config_of(meta)
    if found is None:
        raise CheckpointError(
            "its configuration is not in the checkpoint; give the run's config.py with --config"
        )
    _check(found, state)
    renamed = _renamed(state)
    scores = need(renamed, "roi_heads.box_predictor.cls_score.weight")
    count = len(scores) - 1
    return Imported(
        source="mmdetection",
        architecture=_architecture(renamed, found),
        state=convert_predictor(renamed),
        classes=_classes(meta, count),
        class_count=count,
        keys=_keys(found),
        sections=_sections(
            found, len(renamed["roi_heads.box_predictor.bbox_pred.weight"]) == 4 and count > 1
        ),
    )


def _config_of(meta: Mapping[str, Any]) -> Config | None:
    """The configuration that 2.x ("config") and 3.x ("cfg") write into a checkpoint."""
    text = meta.get("cfg") or meta.get("config")
    return parse_config(text) if isinstance(text, str) else None


def _renamed(state: State) -> State:
    renamed = {}
    for name, tensor in state.items():
        ours = name
        for pattern, replacement in _NAMES:
            ours, count = re.subn(f"^{pattern}", replacement, ours)
            if count:
                break
        if ours:
            renamed[ours] = tensor
    return renamed


def _architecture(state: State, config: Config) -> str:
    bottleneck = "backbone.body.layer1.0.conv3.weight" in state
    grouped = need(state, "backbone.body.layer1.0.conv2.weight")
    name = resnet_name(blocks(state, "backbone.body.layer3."), grouped, bottleneck)
    caffe = config.get("model.backbone.style", "pytorch") == "caffe" and bottleneck
    return f"{name}_caffe_fpn" if caffe else f"{name}_fpn"


def _classes(meta: Mapping[str, Any], count: int) -> Sequence[str] | None:
    classes = fields_of(meta.get("dataset_meta")).get("classes") or meta.get("CLASSES")
    if isinstance(classes, list | tuple) and len(classes) == count:
        return [str(name) for name in classes]
    return COCO_CLASSES if count == len(COCO_CLASSES) else None


def _test(config: Config, part: str) -> Mapping[str, Any]:
    """The test settings of "rpn" or "rcnn", which old files have outside the model."""
    found = config.get(f"model.test_cfg.{part}") or config.get(f"test_cfg.{part}") or {}
    return found if isinstance(found, Mapping) else {}


def _nms_threshold(settings: Mapping[str, Any], default: float) -> float:
    nms = settings.get("nms")
    found = nms.get("iou_threshold") if isinstance(nms, Mapping) else settings.get("nms_thr")
    return default if found is None else float(found)


def _keys(config: Config) -> Mapping[str, Any]:
    rcnn = _test(config, "rcnn")
    long, short = _scale(config)
    return {
        "score_threshold": float(rcnn.get("score_thr", 0.05)),
        "nms_threshold": _nms_threshold(rcnn, 0.5),
        "max_detections": rcnn.get("max_per_img", 100),
        "min_size": short,
        "max_size": long,
    }


def _scale(config: Config) -> tuple[int, int]:
    """Long and short side of the test pipeline's resize."""
    step = config.pipeline_step("Resize")
    scale = (
        step.get("scale")
        or step.get("img_scale")
        or config.pipeline_step("MultiScaleFlipAug").get("img_scale")
    )
    if not isinstance(scale, tuple | list) or len(scale) != 2:
        return 1333, 800
    return max(scale), min(scale)


def _pixels(config: Config) -> tuple[Any, Any, bool, int]:
    """Mean, standard deviation, whether pixels are RGB, and what sides are padded to."""
    three = config.get("model.data_preprocessor")
    if three is not None:
        return (
            three.get("mean"),
            three.get("std"),
            bool(three.get("bgr_to_rgb")),
            three.get("pad_size_divisor", 1),
        )
    two = config.pipeline_step("Normalize") or config.get("img_norm_cfg") or {}
    caffe = config.get("model.backbone.style") == "caffe"
    mean = two.get("mean", CAFFE_MEAN if caffe else MEAN)
    std = two.get("std", CAFFE_STD if caffe else STD)
    return mean, std, bool(two.get("to_rgb", not caffe)), config.pipeline_step("Pad").get("size_divisor", 32)


def _sections(config: Config, agnostic: bool) -> dict[str, dict[str, Any]]:
    mean, std, rgb, pad_to = _pixels(config)
    rpn, roi = _test(config, "rpn"), config.get("model.roi_head.bbox_roi_extractor.roi_layer", {})
    stds = config.get("model.roi_head.bbox_head.bbox_coder.target_stds", [0.1, 0.1, 0.2, 0.2])
    post = rpn.get("max_per_img") or rpn.get("max_num") or rpn.get("nms_post") or 1000
    return {
        "preprocessing": {
            "mean": [float(value) for value in mean],
            "std": [float(value) for value in std],
            "channels": "rgb" if rgb else "bgr",
            "scale": 1,
            "resize": "opencv",
            "pad_to": pad_to,
        },
        "anchors": _anchors(config),
        "rpn": {
            "pre_nms": rpn.get("nms_pre", 1000),
            "post_nms": post,
            "nms_threshold": _nms_threshold(rpn, 0.7),
            "min_size": max(rpn.get("min_bbox_size", 0), LARGER_THAN_ZERO),
            "rank_by": "scores",
            "clamp": "both",
        },
        "head": {
            "class_agnostic": agnostic,
            "box_weights": [round(1 / float(std), 6) for std in stds],
            "sampling_ratio": max(0, roi.get("sampling_ratio", 0)),
            "aligned": bool(roi.get("aligned", True)),
            "clamp": "both",
            "empty_boxes": "keep",
        },
    }


def _anchors(config: Config) -> dict[str, Any]:
    generator = config.get("model.rpn_head.anchor_generator", {})
    strides = list(generator.get("strides", STRIDES))
    scales = generator.get("scales", [8])
    return {
        "sizes": [[float(scale * stride) for scale in scales] for stride in strides],
        "ratios": [[float(ratio) for ratio in generator.get("ratios", [0.5, 1.0, 2.0])]],
        "strides": [float(stride) for stride in strides],
        "offset": float(generator.get("center_offset", 0.0)),
        "rounded": False,
    }


# Types of layers and the only ones that are served; other arithmetic answers otherwise.
_SUPPORTED: dict[str, tuple[object, ...]] = {
    "model.type": ("FasterRCNN",),
    "model.backbone.type": ("ResNet", "ResNeXt"),
    "model.neck.type": ("FPN",),
    "model.neck.num_outs": (5,),
    "model.rpn_head.type": ("RPNHead",),
    "model.rpn_head.anchor_generator.type": ("AnchorGenerator",),
    "model.rpn_head.bbox_coder.type": ("DeltaXYWHBBoxCoder",),
    "model.rpn_head.bbox_coder.target_stds": ((1.0, 1.0, 1.0, 1.0),),
    "model.roi_head.type": ("StandardRoIHead",),
    "model.roi_head.bbox_head.type": ("Shared2FCBBoxHead",),
    "model.roi_head.bbox_head.bbox_coder.target_means": ((0.0, 0.0, 0.0, 0.0),),
    "model.roi_head.bbox_roi_extractor.type": ("SingleRoIExtractor",),
    "model.roi_head.bbox_roi_extractor.roi_layer.type": ("RoIAlign",),
    "model.test_cfg.rcnn.nms.type": ("nms",),
}


def _check(config: Config, state: State) -> None:
    if any(name.startswith("bbox_head.") for name in state):
        raise CheckpointError(
            "a checkpoint of mmdetection 1.x; convert it with its tools/model_converters/"
            "upgrade_model_version.py"
        )
    for key, supported in _SUPPORTED.items():
        value = config.get(key, supported[0])
        value = tuple(value) if isinstance(value, list) else value
        if value not in supported:
            allowed = " or ".join(map(repr, supported))
            raise CheckpointError(f"its configuration has {key} = {value!r}; only {allowed} can be served")
    if config.get("model.backbone.deep_stem") or config.get("model.backbone.dcn"):
        raise CheckpointError(
            "its backbone has a deep stem or deformable convolutions, which cannot be served"
        )

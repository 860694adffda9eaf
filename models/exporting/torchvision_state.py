"""torchvision's own state dict, for the networks that its builders make, and the call that loads it."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection

from models.detections import Detections
from models.exporting.errors import ExportError
from models.exporting.source import Run, Source, Target
from models.images.decoder import Pixels
from models.options import Options
from models.zoo.cards import Card
from models.zoo.sections import Anchors, Head, Preprocessing, Rpn

BUILDERS = {
    "resnet50_fpn": "fasterrcnn_resnet50_fpn",
    "resnet50_fpn_v2": "fasterrcnn_resnet50_fpn_v2",
    "mobilenet_v3_large_fpn": "fasterrcnn_mobilenet_v3_large_fpn",
    "mobilenet_v3_large_320_fpn": "fasterrcnn_mobilenet_v3_large_320_fpn",
}
# Keys of the sections that the builders take as arguments; every other one must be torchvision's.
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "preprocessing": ("mean", "std", "channels", "scale"),
    "rpn": ("pre_nms", "post_nms", "nms_threshold", "score_threshold"),
    "head": ("box_weights",),
    "anchors": (),
}
DEFAULTS = {"preprocessing": Preprocessing(), "rpn": Rpn(), "head": Head(), "anchors": Anchors()}


def check_is_torchvision(card: Card) -> None:
    """Raise ExportError where torchvision has no builder of this network, with the reason."""
    if card.architecture not in BUILDERS:
        raise ExportError(
            f"{card.name}: torchvision has no builder of {card.architecture}, so nothing could load the "
            f"file; it has: {', '.join(BUILDERS)}. Use --to onnx"
        )
    for name, default in DEFAULTS.items():
        section = getattr(card, name)
        for key in type(section).model_fields:
            if key not in ARGUMENTS[name] and getattr(section, key) != getattr(default, key):
                raise ExportError(
                    f"{card.name}: [{name}] {key} = {getattr(section, key)!r} is not a way of torchvision's "
                    "detectors, whose answers would differ. Use --to onnx"
                )


def builder_call(source: Source, options: Options) -> tuple[str, dict[str, Any]]:
    """The builder in torchvision.models.detection and all its arguments, as the builders' defaults differ."""
    card, network = source.card, source.network
    how = card.preprocessing
    step = -1 if how.channels == "bgr" else 1  # the network takes RGB, whatever it learned
    factor = how.scale / 255  # torchvision divides pixels by 255
    arguments = {
        "num_classes": len(card.labels),
        "min_size": card.min_size,
        "max_size": card.max_size,
        "image_mean": [value * factor for value in list(how.mean)[::step]],
        "image_std": [value * factor for value in list(how.std)[::step]],
        "rpn_pre_nms_top_n_test": network.rpn.pre_nms_top_n(),
        "rpn_post_nms_top_n_test": network.rpn.post_nms_top_n(),
        "rpn_nms_thresh": network.rpn.nms_thresh,
        "rpn_score_thresh": network.rpn.score_thresh,
        "box_score_thresh": options.score_threshold,
        "box_nms_thresh": options.nms_threshold,
        "box_detections_per_img": options.max_detections,
        "bbox_reg_weights": tuple(network.roi_heads.box_coder.weights),
    }
    return BUILDERS[card.architecture], arguments


def _exact_norms(network: nn.Module) -> bool:
    """Whether the norms add nothing to the variance, as in torchvision's oldest weights."""
    return any(isinstance(module, nn.BatchNorm2d) and module.eps == 0 for module in network.modules())


def _write(source: Source, options: Options, path: Path) -> None:
    """Write the state dict with `torch.save`."""
    written = io.BytesIO()
    state = {name: value.detach().clone() for name, value in source.network.state_dict().items()}
    torch.save(state, written)
    path.write_bytes(written.getvalue())


def _run(source: Source, options: Options, path: Path) -> Run:
    """torchvision's own detector with the written state."""
    name, arguments = builder_call(source, options)
    build = getattr(detection, name)
    network = build(weights=None, weights_backbone=None, **arguments).eval()
    network.load_state_dict(torch.load(path, weights_only=True))
    if _exact_norms(source.network):
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0

    @torch.inference_mode()
    def run(images: Sequence[Pixels]) -> list[Detections]:
        # One at a time: torchvision pads a batch to its largest image, which changes answers.
        return [_detections(network([_tensor(image)])[0]) for image in images]

    return run


def _tensor(image: Pixels) -> Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255


def _detections(found: dict[str, Tensor]) -> Detections:
    return Detections(**{name: found[name].numpy() for name in ("boxes", "labels", "scores")})


def _loading_code(source: Source, options: Options, path: Path) -> str:
    """Lines of Python that load the file as it was checked."""
    name, arguments = builder_call(source, options)
    given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    lines = [
        f"network = torchvision.models.detection.{name}(weights=None, weights_backbone=None, {given})",
        f"network.load_state_dict(torch.load({str(path)!r}))",
    ]
    if _exact_norms(source.network):
        lines.append(
            "for m in network.modules():  # as torchvision does for these weights\n"
            "    if isinstance(m, torch.nn.BatchNorm2d): m.eps = 0.0"
        )
    return "\n".join(lines)


TORCH = Target(_write, _run, _loading_code)

"""Recognises an architecture by the names and shapes of torchvision-style weights."""

from torch import Tensor

from models.checkpoints.errors import CheckpointError

State = dict[str, Tensor]

MOBILE_FPN = "mobilenet_v3_large_fpn"
V2_MARK = "backbone.fpn.inner_blocks.0.1.weight"  # torchvision's second version has norms in its pyramid
DEPTHS = {6: 50, 23: 101, 36: 152}  # of a ResNet, by the blocks of its third stage
SHALLOW_DEPTHS = {2: 18, 6: 34}  # without bottlenecks


def architecture_of(state: State) -> str | None:
    """The architecture whose names and shapes these are, None if none is known."""
    try:
        return recognise(state)
    except CheckpointError:
        return None


def recognise(state: State) -> str:
    """As `architecture_of`; raises CheckpointError."""
    if "backbone.body.conv1.weight" in state:
        return _resnet(state)
    if "backbone.body.0.0.weight" in state and "backbone.body.16.0.weight" in state:
        return MOBILE_FPN
    if "backbone.18.0.weight" in state:
        return "mobilenet_v2"
    if "backbone.body.stem.0.weight" in state:
        return "small"
    raise CheckpointError(
        "its backbone is none that is served; `rcnn import` knows ResNet 18 to 152 and ResNeXt with FPN, "
        "ResNet C4 and DC5, MobileNetV3 with FPN and MobileNetV2"
    )


def _resnet(state: State) -> str:
    bottleneck = "backbone.body.layer1.0.conv3.weight" in state
    grouped = need(state, "backbone.body.layer1.0.conv2.weight")
    name = resnet_name(blocks(state, "backbone.body.layer3."), grouped, bottleneck)
    if "roi_heads.box_head.layer4.0.conv1.weight" in state:
        return f"{name}_c4"
    if not any(key.startswith("backbone.fpn.") for key in state):
        return f"{name}_dc5"
    return f"{name}_fpn_v2" if V2_MARK in state else f"{name}_fpn"


def need(state: State, name: str) -> Tensor:
    """A tensor that every such checkpoint has; raises CheckpointError."""
    if name not in state:
        raise CheckpointError(
            f"the weights of {name} are missing: it is no whole Faster R-CNN of a kind that is served"
        )
    return state[name]


def blocks(state: State, prefix: str) -> int:
    """Number of residual blocks whose names begin with the prefix."""
    numbers = {name[len(prefix) :].partition(".")[0] for name in state if name.startswith(prefix)}
    return len({number for number in numbers if number.isdigit()})


def resnet_name(third_stage: int, grouped: Tensor, bottleneck: bool = True) -> str:
    """The ResNet's name by the blocks of its third stage and its first 3x3 convolution's weights."""
    depth = (DEPTHS if bottleneck else SHALLOW_DEPTHS).get(third_stage)
    if depth is None:
        raise CheckpointError(
            f"a backbone with {third_stage} blocks in its third stage is no ResNet of 18 to 152"
        )
    channels, per_group = grouped.shape[:2]
    if per_group == channels:
        return f"resnet{depth}"
    return f"resnext{depth}_{channels // per_group}x{per_group}d"

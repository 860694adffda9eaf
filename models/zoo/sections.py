"""The sections of a card that say how its network was trained elsewhere; torchvision's ways are the defaults.

Without a value, [anchors], [rpn] and [head] leave what the architecture has. Needs no torch.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Triple = tuple[float, float, float]
Positive = Annotated[float, Field(gt=0.0, le=1e4)]
Level = Annotated[tuple[Positive, ...], Field(min_length=1, max_length=32)]
Levels = Annotated[tuple[Level, ...], Field(min_length=1, max_length=8)]
Count = Annotated[int, Field(ge=1, le=20_000)]
Clamp = Literal["growth", "both"]
# Boxes without area: left out before NMS as in torchvision, at the very end as in detectron2, or never.
EmptyBoxes = Literal["drop_first", "drop_last", "keep"]
# What proposals are ranked by. It matters where scores round to 1: "both" takes the best of a level by logits
# and all others by scores, as torchvision; detectron2 takes logits, mmdetection scores.
RankBy = Literal["both", "logits", "scores"]


class Section(BaseModel):
    """One table of a card."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _lists_as_tuples(cls, values: Any) -> Any:
        return (
            {key: _as_tuple(value) for key, value in values.items()} if isinstance(values, dict) else values
        )


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value


class Preprocessing(Section):
    """Pixels as the network learned them: (value / scale - mean) / std, in the order of `channels`."""

    mean: Triple = (0.485, 0.456, 0.406)
    std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225)
    channels: Literal["rgb", "bgr"] = "rgb"
    scale: Literal[1, 255] = 255  # what pixels of 0 to 255 are divided by
    resize: Literal["torch", "pillow", "opencv"] = "torch"  # whose bilinear resize, with its rounding
    pad_to: Annotated[int, Field(ge=1, le=256)] = 32  # sides are padded to multiples of it; 1: no padding


class Anchors(Section):
    """The RPN's anchors: for each level its sizes (the root of the area, px) and ratios (height / width)."""

    sizes: Levels | None = None
    ratios: Levels | None = None  # one for all levels, or one a level
    strides: Annotated[tuple[Positive, ...], Field(max_length=8)] | None = None  # px; default: canvas / map
    offset: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0  # of the first centre, in strides
    rounded: bool = True  # corners to whole px
    order: Literal["ratio", "size"] = "ratio"  # what changes slowest within a position


class Rpn(Section):
    """Proposals at inference: the best of a level before NMS, of all after it, thresholds, smallest side."""

    pre_nms: Count | None = None
    post_nms: Count | None = None
    nms_threshold: Fraction | None = None
    score_threshold: Fraction | None = None
    min_size: Annotated[float, Field(ge=0.0, le=1000.0)] | None = None  # px of the canvas
    clamp: Clamp = "growth"  # limit a box's change of size when it grows, or both ways
    rank_by: RankBy = "both"


class Head(Section):
    """The box head: RoIAlign and the encoding of boxes."""

    class_agnostic: bool = False  # one box for all classes
    box_weights: tuple[Positive, Positive, Positive, Positive] | None = None  # of dx, dy, dw, dh
    sampling_ratio: Annotated[int, Field(ge=0, le=16)] | None = None  # per bin side; 0: by the box's size
    aligned: bool = False  # RoIAlign shifted by half a pixel, as of detectron2's ROIAlignV2
    clamp: Clamp = "growth"
    empty_boxes: EmptyBoxes = "drop_first"
    voting_iou: Annotated[float, Field(gt=0.0, le=1.0)] | None = None  # of boxes that are averaged after NMS

    @property
    def after_nms(self) -> tuple[EmptyBoxes, float | None]:
        """What becomes of boxes besides NMS."""
        return self.empty_boxes, self.voting_iou


SECTIONS: dict[str, type[Section]] = {
    "preprocessing": Preprocessing,
    "anchors": Anchors,
    "rpn": Rpn,
    "head": Head,
}

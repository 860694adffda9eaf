"""Applies a card's [anchors], [rpn] and [head] to its network, before the weights are loaded."""

from torchvision.models.detection import FasterRCNN

from models.networks.adjust import GridAnchors, coder, set_anchors, set_class_agnostic
from models.zoo.cards import Card
from models.zoo.sections import Anchors, Head, Rpn


def configure(network: FasterRCNN, card: Card) -> FasterRCNN:
    """The network with what the card's sections say; raises ValueError."""
    if card.anchors != Anchors():
        set_anchors(network, _anchors(network, card.anchors))
    _configure_rpn(network, card.rpn)
    _configure_head(network, card.head)
    return network


def _anchors(network: FasterRCNN, section: Anchors) -> GridAnchors:
    own = network.rpn.anchor_generator
    sizes = section.sizes or own.sizes
    ratios = section.ratios or own.aspect_ratios
    if len(ratios) == 1:
        ratios = ratios * len(sizes)
    levels = len(own.sizes)
    for key, values in (("sizes", sizes), ("ratios", ratios), ("strides", section.strides)):
        if values is not None and len(values) != levels:
            raise ValueError(f"[anchors] {key} has {len(values)} levels, the architecture has {levels}")
    return GridAnchors(
        tuple(map(tuple, sizes)),
        tuple(map(tuple, ratios)),
        strides=section.strides,
        offset=section.offset,
        rounded=section.rounded,
        order=section.order,
    )


def _configure_rpn(network: FasterRCNN, section: Rpn) -> None:
    rpn = network.rpn
    if section.pre_nms is not None:
        rpn._pre_nms_top_n = {**rpn._pre_nms_top_n, "testing": section.pre_nms}
    if section.post_nms is not None:
        rpn._post_nms_top_n = {**rpn._post_nms_top_n, "testing": section.post_nms}
    rpn.nms_thresh = _either(section.nms_threshold, rpn.nms_thresh)
    rpn.score_thresh = _either(section.score_threshold, rpn.score_thresh)
    rpn.min_size = _either(section.min_size, rpn.min_size)
    rpn.rank_by = section.rank_by  # read by `proposal_config`
    if section.clamp == "both":
        rpn.box_coder = coder(rpn.box_coder.weights, both=True)


def _configure_head(network: FasterRCNN, section: Head) -> None:
    heads = network.roi_heads
    if section.class_agnostic:
        set_class_agnostic(network)
    heads.box_coder = coder(section.box_weights or heads.box_coder.weights, section.clamp == "both")
    if section.sampling_ratio is not None:
        heads.box_roi_pool.sampling_ratio = section.sampling_ratio
    heads.box_roi_pool.aligned = section.aligned  # read by `roi_align_config`


def _either(value: float | None, default: float) -> float:
    return default if value is None else value

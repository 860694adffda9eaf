"""The choice of detections from the head's output."""

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder

from models.ops.nms import torchvision_nms
from models.options import Options
from models.pipeline.canvas import Canvas
from models.pipeline.postprocess import Candidates, postprocess
from models.zoo.sections import EmptyBoxes


def test_a_score_at_the_threshold_itself_is_left_out_as_in_torchvision() -> None:
    canvas = Canvas(torch.zeros(64, 64, 3), (64, 64), (64, 64))
    proposals = torch.tensor([[4.0, 4.0, 40.0, 40.0]])
    candidates = Candidates(proposals, torch.zeros(1, 2), torch.zeros(1, 8))  # softmax: 0.5 each
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    for threshold, expected in ((0.5, 0), (0.4999, 1)):
        assert len(postprocess(candidates, canvas, Options(threshold, 0.5, 9), coder)) == expected


@pytest.mark.parametrize(
    ("empty_boxes", "lefts"), [("drop_first", [4, 30]), ("drop_last", [4]), ("keep", [64, 4])]
)
def test_boxes_without_area(empty_boxes: EmptyBoxes, lefts: list[int]) -> None:
    """The best box lies beyond the right edge: clipping leaves nothing of it. Two boxes are asked for."""
    canvas = Canvas(torch.zeros(64, 64, 3), (64, 64), (64, 64))
    proposals = torch.tensor([[70.0, 4, 80, 20], [4, 4, 20, 20], [30, 30, 60, 60]])
    logits = torch.tensor([[0.0, 5.0], [0.0, 4.0], [0.0, 3.0]])
    candidates = Candidates(proposals, logits, torch.zeros(3, 8))
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    options = Options(0.5, 0.5, 2)
    detections = postprocess(candidates, canvas, options, coder, torchvision_nms, empty_boxes)
    assert detections.boxes[:, 0].tolist() == lefts

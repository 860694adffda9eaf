"""The choice of detections from the head's output."""

import torch
from torchvision.models.detection._utils import BoxCoder

from models.options import Options
from models.pipeline.canvas import Canvas
from models.pipeline.postprocess import Candidates, postprocess


def test_a_score_at_the_threshold_itself_is_left_out_as_in_torchvision() -> None:
    canvas = Canvas(torch.zeros(64, 64, 3), (64, 64), (64, 64))
    proposals = torch.tensor([[4.0, 4.0, 40.0, 40.0]])
    candidates = Candidates(proposals, torch.zeros(1, 2), torch.zeros(1, 8))  # softmax: 0.5 each
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    for threshold, expected in ((0.5, 0), (0.4999, 1)):
        assert len(postprocess(candidates, canvas, Options(threshold, 0.5, 9), coder)) == expected

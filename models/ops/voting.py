"""Box voting (Gidaris & Komodakis 2015, §4): a detection's box is the mean of those that overlap it.

The boxes that NMS drops were drawn around the same object: the mean, weighted by score, is nearer to it than
the box with the highest score. It costs no pass of the network.
"""

import torch
from torch import Tensor
from torchvision.ops import box_iou

VOTERS = 0.05  # their scores are higher: so a request's threshold above it changes no box
ROWS = 512  # detections at once: bounds the memory


def vote(boxes: Tensor, labels: Tensor, scores: Tensor, best: Tensor, overlap: float) -> Tensor:
    """The boxes (N, 4) of the detections `best` (N,) among the candidates (M,), averaged over the voters.

    Voters are of the same class, with an IoU of at least `overlap`. Without one the box stays.
    """
    voters = torch.where(scores > VOTERS)[0]
    columns = boxes[voters], labels[voters], scores[voters]
    return torch.cat([_mean(boxes[rows], labels[rows], columns, overlap) for rows in torch.split(best, ROWS)])


def _mean(boxes: Tensor, labels: Tensor, voters: tuple[Tensor, Tensor, Tensor], overlap: float) -> Tensor:
    near = (box_iou(boxes, voters[0]) >= overlap) & (labels[:, None] == voters[1])
    weights = near * voters[2]
    total = weights.sum(dim=1, keepdim=True)
    return torch.where(total > 0, weights @ voters[0] / total.clamp(min=VOTERS), boxes)

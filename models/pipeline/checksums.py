"""Checksums of the network's raw outputs: they are read with the answers, in the same copy.

NaN and infinity remain in a sum, so one number for each image tells whether its outputs overflowed.
"""

import torch
from torch import Tensor

from models.engines.protocol import DenseOutput


class NonFiniteOutputs(ValueError):
    """The network's raw outputs for an image hold NaN or infinity: an overflow, not "nothing found"."""

    def __init__(self, images: int, of: int) -> None:
        super().__init__(
            f"the network's outputs for {images} of {of} images are not finite (NaN or infinite); set "
            "RCNN_PRECISION to fp32 if it is a half precision, else get the weights again or train again"
        )


def dense_checksums(dense: DenseOutput) -> Tensor:
    """A number for each image, (B,): NaN or infinite if any of its RPN outputs is."""
    return torch.stack([level.sum((1, 2, 3)) for level in (*dense.objectness, *dense.deltas)]).sum(0)


def check_finite(checksums: Tensor) -> None:
    """Raise NonFiniteOutputs if an image's checksums, a row of (B, n) on the host, are not all finite."""
    finite = torch.isfinite(checksums).all(dim=1)
    if not bool(finite.all()):
        raise NonFiniteOutputs(int((~finite).sum()), len(finite))

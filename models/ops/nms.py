"""Non-maximum suppression within groups: the boxes of a level, of a class. Engines may bring a faster one."""

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor
from torchvision.ops import batched_nms

# Boxes (N, 4), scores (N,), groups (N,), and the largest IoU with which two boxes of a group both survive: to
# the indices of those that do, best score first.
Suppress = Callable[[Tensor, Tensor, Tensor, float], Tensor]

torchvision_nms = cast(Suppress, cast(Any, batched_nms))  # it is not annotated

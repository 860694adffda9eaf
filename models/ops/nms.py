"""Non-maximum suppression within groups, such as levels or classes. An engine may provide a faster one."""

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor
from torchvision.ops import batched_nms

# (boxes (N, 4), scores (N,), groups (N,), largest IoU at which two boxes of a group are both kept) to the
# indices of the kept boxes, best score first.
Suppress = Callable[[Tensor, Tensor, Tensor, float], Tensor]

torchvision_nms = cast(Suppress, cast(Any, batched_nms))  # it is not annotated

"""A backbone's answer, whether it is a pyramid or one map."""

from collections import OrderedDict

from torch import Tensor

from models.networks.single_level import LEVEL


def levels_of(features: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    """A backbone's answer as levels by name: those of a pyramid, or its one map."""
    return OrderedDict([(LEVEL, features)]) if isinstance(features, Tensor) else features

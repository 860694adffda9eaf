"""A backbone's output as levels, for a pyramid and for a single map."""

from collections import OrderedDict

from torch import Tensor

from models.networks.single_level import LEVEL


def levels_of(features: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    """A backbone's output as levels by name: those of a pyramid, or its single map."""
    return OrderedDict([(LEVEL, features)]) if isinstance(features, Tensor) else features

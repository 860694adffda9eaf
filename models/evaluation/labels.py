"""Classes of a data set and of a model are matched by name, as their label ids differ.

Names are compared exactly, then without regard to case. A class that the model lacks stays in the evaluation,
where its objects count as missed; a class that only the model has is removed from its detections.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.detections import Detections


@dataclass(frozen=True, eq=False)
class LabelMatch:
    """Data id of each model id, 0 for none (index = model id); names that only one side has."""

    to_data: npt.NDArray[np.int64]
    missing: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def known(self) -> frozenset[int]:
        """Model ids that the data has too: the classes to detect."""
        return frozenset(int(label) for label in np.flatnonzero(self.to_data))

    def translate(self, detections: Detections) -> Detections:
        """The detections with the data's ids, without classes that the data lacks."""
        labels = self.to_data[detections.labels]
        kept = labels > 0
        return Detections(detections.boxes[kept], labels[kept], detections.scores[kept])


def match_labels(data: Sequence[str], model: Sequence[str], unused: str = "N/A") -> LabelMatch:
    """Match two lists of names (index = label id, 0 the background); `unused` names stand for no class."""
    ids = {name: label for label, name in enumerate(model) if label and name != unused}
    folded = {name.casefold(): label for name, label in reversed(ids.items())}
    pairs = {ids[name]: label for label, name in enumerate(data) if label and name in ids}
    for label, name in enumerate(data):
        if label and name not in ids and name.casefold() in folded:
            pairs.setdefault(folded[name.casefold()], label)
    to_data = np.zeros(len(model), np.int64)
    for theirs, ours in pairs.items():
        to_data[theirs] = ours
    matched = set(pairs.values())
    missing = tuple(name for label, name in enumerate(data) if label and label not in matched)
    extra = tuple(name for name, label in ids.items() if label not in pairs)
    return LabelMatch(to_data, missing, extra)

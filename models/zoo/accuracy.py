"""The [accuracy] of a card: the AP that was measured for a model in each precision. Needs no torch."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import ConfigDict, ValidationError

from models.zoo.sections import Fraction, Section

RECORDED = ("fp32", "fp16", "bf16", "int8")


class Accuracy(Section):
    """COCO's AP in each precision, 0 to 1, on the same data; the command that measured it, where and when."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    fp32: Fraction | None = None
    fp16: Fraction | None = None
    bf16: Fraction | None = None
    int8: Fraction | None = None
    data: str | None = None
    images: int | None = None
    command: str | None = None
    machine: str | None = None
    date: str | None = None

    @classmethod
    def of_int8(cls, table: Mapping[str, Any]) -> Self | None:
        """The figures of an [int8] table, where cards of earlier releases have them; None without an AP."""
        if table.get("measure") != "AP":
            return None
        try:
            return cls(fp32=table.get("fp32"), int8=table.get("int8"), images=table.get("evaluated_images"))
        except ValidationError:
            return None

    @property
    def measured(self) -> dict[str, float]:
        """The AP of each precision that was measured."""
        values = {name: getattr(self, name) for name in RECORDED}
        return {name: value for name, value in values.items() if value is not None}

    def joined(self, newer: "Accuracy") -> "Accuracy":
        """The newer record, with what this one has of other precisions on the same data."""
        if (self.data, self.images) != (newer.data, newer.images):
            return newer
        return newer.model_copy(update={**self.measured, **newer.measured})

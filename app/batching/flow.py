"""A flow: items that share the devices with those of other flows as one party, such as all of one model."""

from dataclasses import dataclass

NEWEST_WEIGHT = 0.2  # of the newest batch in the moving average: about the last ten count


@dataclass(eq=False)
class Flow:
    """How large the batches of a flow may be, how long its items take, and what it has had of the devices.

    `max_batch`: most items in a batch; one that does not fit into memory lowers it. `longest`: seconds that a
    batch may take, None for any. `seconds`: of the devices, as fair sharing counts them.
    """

    max_batch: int = 1
    longest: float | None = None
    seconds: float = 0.0
    per_item: float = 0.0  # seconds, a moving average; 0 until the first batch
    model: str = ""  # a name for metrics

    @property
    def batch_limit(self) -> int:
        """Most items in the next batch."""
        if self.longest is None or not self.per_item:
            return self.max_batch
        return max(1, min(self.max_batch, int(self.longest / self.per_item)))

    def set_max_batch(self, max_batch: int) -> None:
        """Set the most items in a batch; at least 1."""
        self.max_batch = max(1, max_batch)

    def observe(self, size: int, seconds: float) -> None:
        """Count a batch that has run."""
        weight = NEWEST_WEIGHT if self.per_item else 1.0
        self.per_item += weight * (seconds / size - self.per_item)

    def charge(self, size: int) -> None:
        """Count a batch that begins, by what its items are known to take."""
        self.seconds += size * self.per_item

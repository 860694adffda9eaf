"""A flow: items that share the devices with those of other flows as one party, such as all of one model."""

from dataclasses import dataclass, field

NEWEST_WEIGHT = 0.2  # of the newest batch in the moving average: about the last ten count


class Pace:
    """Seconds per item and per batch, as the last batches had them; 0 until the first."""

    def __init__(self) -> None:
        self.per_batch = self.per_item = 0.0
        self._is_stale = False

    def observe(self, size: int, seconds: float) -> None:
        """Count a batch that has run."""
        newest, weight = seconds / size, 1.0 if self._is_stale and self.per_item else NEWEST_WEIGHT
        self._is_stale = False
        self.per_batch += weight * (seconds - self.per_batch)
        self.per_item += (weight if self.per_item else 1.0) * (newest - self.per_item)

    def as_guess(self) -> "Pace":
        """The same averages, until a batch replaces them."""
        guess = Pace()
        guess.per_batch, guess.per_item, guess._is_stale = self.per_batch, self.per_item, True
        return guess

    def reset(self) -> None:
        """The next batch replaces the averages."""
        self._is_stale = True


@dataclass(eq=False)
class Flow:
    """How large the batches of a flow may be, how long its items take, and what it has had of the devices.

    `max_batch`: most items in a batch; one that does not fit into memory lowers it. `longest`: seconds that a
    batch may take, None for any. `seconds`: of the devices, as fair sharing counts them. `model`: a name for
    metrics. Who runs the batcher tells `pace` of each batch.
    """

    max_batch: int = 1
    longest: float | None = None
    seconds: float = 0.0
    model: str = ""
    pace: Pace = field(default_factory=Pace)

    @property
    def batch_limit(self) -> int:
        """Most items in the next batch."""
        if self.longest is None or not self.pace.per_item:
            return self.max_batch
        return max(1, min(self.max_batch, int(self.longest / self.pace.per_item)))

    def set_max_batch(self, max_batch: int) -> None:
        """Set the most items in a batch; at least 1."""
        self.max_batch = max(1, max_batch)

    def charge(self, size: int) -> None:
        """Count a batch that begins, by what its items are known to take."""
        self.seconds += size * self.pace.per_item

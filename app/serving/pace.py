"""How fast the devices work: a moving average over the last batches."""

_NEWEST_WEIGHT = 0.2  # of the newest batch in the moving average: about the last ten count


class Pace:
    """Seconds per image and per batch, as the last batches had them; 0 until the first."""

    def __init__(self) -> None:
        self.per_batch = 0.0
        self._per_image: float | None = None
        self._is_stale = False

    @property
    def per_image(self) -> float:
        """Seconds per image."""
        return self._per_image or 0.0

    def observe(self, batch_size: int, seconds: float) -> None:
        """Count a batch that has run."""
        weight = 1.0 if self._is_stale and self._per_image is not None else _NEWEST_WEIGHT
        self._is_stale = False
        self.per_batch += weight * (seconds - self.per_batch)
        newest, known = seconds / batch_size, self._per_image
        self._per_image = newest if known is None else known + weight * (newest - known)

    def as_guess(self) -> "Pace":
        """The same averages, until a batch replaces them."""
        guess = Pace()
        guess.per_batch, guess._per_image, guess._is_stale = self.per_batch, self._per_image, True
        return guess

    def reset(self) -> None:
        """The next batch replaces the averages."""
        self._is_stale = True

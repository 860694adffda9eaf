"""The error of every fault of a checkpoint."""


class CheckpointError(ValueError):
    """A file that holds no usable weights; the text says what it is and what to do, without its path."""

"""What a batcher tells about its work."""

from collections.abc import Callable
from dataclasses import dataclass

from app.batching.flow import Flow


@dataclass(frozen=True)
class BatchEvents:
    """Callbacks on what the batcher does; each is called on the event loop's thread."""

    batch_done: Callable[[int, float, Flow], None]  # size and seconds of a batch that gave results, its flow
    retried: Callable[[str], None]  # a failed batch is run again in parts; the reason: "memory" or "error"
    cancelled: Callable[[], None]  # a request was cancelled before a device had begun its item
    expired: Callable[[], None]  # a deadline passed, in the queue or on the device
    # an item of this priority was removed from the queue for a higher one
    shed: Callable[[int], None] = lambda priority: None
    working: Callable[[int], None] = lambda devices: None  # the number of working devices has changed

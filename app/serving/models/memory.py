"""Whether a model fits into memory beside the others, by the size of its weights or what it took before."""

from app.errors import Conflict
from app.serving.interfaces import ModelSource
from models.zoo.cards import Card

MIB = 1 << 20


def check_fits(source: ModelSource, card: Card, measured: int) -> None:
    """Raise Conflict, with the numbers, for a model that needs more than is free.

    `measured`: bytes that a load of it took before in this process, 0 for none.
    """
    needed, free = max(source.needed_bytes(card), measured), source.free_bytes()
    if free is not None and needed > free:
        how = "as before" if measured == needed else "by the size of its weights"
        raise Conflict(
            f"{card.name} does not fit: it needs about {_mib(needed)} MiB ({how}), {_mib(free)} are free; "
            "unload another model with POST /models/NAME/unload, or give the process more memory"
        )


def _mib(nbytes: int) -> int:
    return round(nbytes / MIB)

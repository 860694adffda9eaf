"""Work by its size: little of it on the event loop, much on a thread, so that nobody waits for it."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool

from app.schemas.limits import MAX_LOOP_BYTES

P = ParamSpec("P")
R = TypeVar("R")


async def run_sized(size: int, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `work`, which reads or writes about `size` bytes: on a thread where they are many."""
    if size <= MAX_LOOP_BYTES:
        return work(*args, **kwargs)
    return await run_in_threadpool(work, *args, **kwargs)

"""A function on many items, so many at a time, results in order: on threads, or as tasks of asyncio."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 4  # times `in_flight`: how far others may be ahead of the item whose result is next


def in_order(
    do: Callable[[T], R], items: Iterable[T], in_flight: int, stop: Callable[[], object] = lambda: None
) -> Iterator[R]:
    """`do` of each item, on `in_flight` threads; results in the order of the items, which are read lazily.

    An exception of `do` is raised in its place and ends the iteration. At the end, or when the generator is
    closed before it, `stop` is called, to end running calls, and those are waited for.
    """
    check(in_flight)
    pending: deque[Future[R]] = deque()
    threads = ThreadPoolExecutor(in_flight, "rcnn-client")
    try:
        for item in items:
            pending.append(threads.submit(do, item))
            if len(pending) == AHEAD * in_flight:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        stop()
        threads.shutdown(cancel_futures=True)


async def in_order_async(
    do: Callable[[T], Awaitable[R]], items: Iterable[T], in_flight: int
) -> AsyncIterator[R]:
    """`in_order` on tasks of the running loop."""
    check(in_flight)
    pending: deque[asyncio.Task[R]] = deque()
    limit = asyncio.Semaphore(in_flight)

    async def within_limit(item: T) -> R:
        async with limit:
            return await do(item)

    try:
        for item in items:
            pending.append(asyncio.create_task(within_limit(item)))
            if len(pending) == AHEAD * in_flight:
                yield await pending.popleft()
        while pending:
            yield await pending.popleft()
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


def check(in_flight: int) -> None:
    """Raise ValueError for a limit below 1."""
    if in_flight < 1:
        raise ValueError(f"in_flight is {in_flight}; it must be at least 1")


@contextlib.contextmanager
def bar(items: Iterable[object], shown: bool) -> Iterator[Callable[[], object]]:
    """A bar on stderr, where that is a terminal; call the yielded function after each item. Needs rich."""
    if not shown:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    err = Console(stderr=True)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("Detecting", total=len(items) if isinstance(items, Sized) else None)
        yield lambda: progress.advance(task)

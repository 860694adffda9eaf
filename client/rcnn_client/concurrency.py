"""Many things at a time, bounded, their results in order: on threads, and as tasks of asyncio."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 4  # times `in_flight`: how far others may be ahead of the slowest, whose result is due first


def in_order(
    do: Callable[[T], R], things: Iterable[T], in_flight: int, stop: Callable[[], object] = lambda: None
) -> Iterator[R]:
    """`do` of each thing, on `in_flight` threads; results in the order of the things, which are read lazily.

    What `do` raises is raised in its place, and ends it. At the end, or when the caller leaves before it,
    `stop` is called, to end what still runs, and that is waited for.
    """
    check(in_flight)
    waiting: deque[Future[R]] = deque()
    threads = ThreadPoolExecutor(in_flight, "rcnn-client")
    try:
        for thing in things:
            waiting.append(threads.submit(do, thing))
            if len(waiting) == AHEAD * in_flight:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        stop()
        threads.shutdown(cancel_futures=True)


async def in_order_async(
    do: Callable[[T], Awaitable[R]], things: Iterable[T], in_flight: int
) -> AsyncIterator[R]:
    """`in_order` on tasks of the running loop."""
    check(in_flight)
    waiting: deque[asyncio.Task[R]] = deque()
    places = asyncio.Semaphore(in_flight)

    async def at_its_turn(thing: T) -> R:
        async with places:
            return await do(thing)

    try:
        for thing in things:
            waiting.append(asyncio.create_task(at_its_turn(thing)))
            if len(waiting) == AHEAD * in_flight:
                yield await waiting.popleft()
        while waiting:
            yield await waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def check(in_flight: int) -> None:
    """Raise ValueError for a number of requests that cannot be."""
    if in_flight < 1:
        raise ValueError(f"in_flight is {in_flight}; it must be at least 1")


@contextlib.contextmanager
def bar(things: Iterable[object], shown: bool) -> Iterator[Callable[[], object]]:
    """A bar on stderr, where that is a terminal; what it yields moves it on by one. It needs rich."""
    if not shown:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    err = Console(stderr=True)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("Detecting", total=len(things) if isinstance(things, Sized) else None)
        yield lambda: progress.advance(task)

"""Work for a request ends as soon as its client disconnects."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

R = TypeVar("R")


async def cancel_on_disconnect(request: Request, work: Awaitable[R]) -> R:
    """Await `work` after the body is read; if the client leaves, cancel it and raise ClientDisconnect."""
    task = asyncio.ensure_future(work)
    disconnected = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        task.cancel()
        disconnected.cancel()
        # What the work holds (its permit, its queue item) is released before the request ends.
        await asyncio.gather(task, disconnected, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

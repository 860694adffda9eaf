"""The least speed of a request's body: who sends slower gets DeadlineExceeded in the route that reads."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from app.errors import DeadlineExceeded

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

GRACE_SECONDS = 10.0  # in which nothing need arrive: a lost packet is sent again within 3 s
BYTES_PER_SECOND = 4096  # on average after that; the slowest mobile networks have twice as much


def with_least_speed(receive: Receive) -> Receive:
    """`receive` of a request, which raises DeadlineExceeded for a body that arrives too slowly.

    Only the time in which the app waits for the body counts.
    """
    waited, arrived, complete = 0.0, 0, False

    async def timed() -> Message:
        nonlocal waited, arrived, complete
        if complete:  # the app waits for the client to disconnect
            return await receive()
        begun = time.monotonic()
        try:
            async with asyncio.timeout(GRACE_SECONDS + arrived / BYTES_PER_SECOND - waited):
                message = await receive()
        except TimeoutError as error:
            raise _too_slow() from error
        waited += time.monotonic() - begun
        arrived += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        return message

    return timed


def _too_slow() -> DeadlineExceeded:
    return DeadlineExceeded(
        f"the request body arrives too slowly; send at least {BYTES_PER_SECOND} bytes a second after the "
        f"first {GRACE_SECONDS:.0f} s"
    )

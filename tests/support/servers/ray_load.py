"""Clients of the replicas on Ray, in a closed loop."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class ReplicaAnswer:
    """What a client received; `body` is empty if there was no answer."""

    sent: int  # which image
    status: int
    retry_after: str
    replica: str
    identity: str
    body: dict[str, Any]


class ClosedLoop:
    """Clients that send again as soon as they have an answer, until the block ends."""

    def __init__(self, url: str, images: Sequence[bytes], clients: int) -> None:
        self.answers: list[ReplicaAnswer] = []
        self._url, self._images, self._clients = url, images, clients
        self._sent = 0
        self._stopped = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "ClosedLoop":
        self._client = httpx.AsyncClient(
            base_url=self._url, timeout=60, limits=httpx.Limits(max_connections=None)
        )
        self._tasks = [asyncio.create_task(self._repeat()) for _ in range(self._clients)]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stopped.set()
        await asyncio.gather(*self._tasks)
        await self._client.aclose()

    async def _repeat(self) -> None:
        while not self._stopped.is_set():
            number, self._sent = self._sent, self._sent + 1
            self.answers.append(await send_image(self._client, number, self._images))


async def send_image(client: httpx.AsyncClient, number: int, images: Sequence[bytes]) -> ReplicaAnswer:
    """One request with an id of its own; status 0 if there was no answer."""
    headers = {"Content-Type": "image/jpeg", "X-Request-ID": f"n{number}"}
    response = httpx.Response(0)
    with suppress(httpx.TransportError):
        response = await client.post("/detect", content=images[number % len(images)], headers=headers)
    body: dict[str, Any] = {}
    with suppress(ValueError):
        body = response.json() if response.status_code else {}
    received = response.headers
    return ReplicaAnswer(
        number % len(images),
        response.status_code,
        received.get("retry-after", ""),
        received.get("x-replica", ""),
        received.get("x-request-id", ""),
        body,
    )

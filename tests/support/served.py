"""The real app with a detector at the seam, and a client of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.main import create_app
from app.settings.settings import Settings
from tests.support.fakes import FakeDetector

ROOT = Path(__file__).parents[2]


async def eventually(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Return as soon as `condition` holds; fail with `what` was awaited when it does not in time."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110  # what a test waits for has no event
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"waited {seconds} s in vain: {what}")


@dataclass(frozen=True)
class Served:
    """A running app, a client of it, and the detector behind it."""

    app: FastAPI
    client: httpx.AsyncClient
    detector: FakeDetector

    async def metric(self, name: str, /, **labels: str) -> float:
        """A sample of /metrics; 0 when it is not there."""
        text = (await self.client.get("/metrics")).text
        wanted = "{" + ",".join(f'{key}="{labels[key]}"' for key in sorted(labels)) + "}" if labels else ""
        for line in text.splitlines():
            if line.rpartition(" ")[0] == name + wanted:
                return float(line.rpartition(" ")[2])
        return 0.0

    async def counts(self, value: float, name: str, /, **labels: str) -> None:
        """Wait until a sample has that value: gRPC records a call after its client has the error."""
        found = await self.metric(name, **labels)
        for _ in range(4000):
            if found == value:
                return
            await asyncio.sleep(0.005)
            found = await self.metric(name, **labels)
        pytest.fail(f"{name} {labels} is {found}, not {value}")

    async def ready(self) -> None:
        """Wait until work is taken."""
        await eventually(lambda: self.app.state.service.state == "ok", "the service is ready")


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@asynccontextmanager
async def serve_app(
    detector: FakeDetector | None = None,
    ready: bool = True,
    loader: Callable[[str], FakeDetector] | None = None,
    **settings: Any,
) -> AsyncIterator[Served]:
    detector = detector or FakeDetector()
    chosen = Settings(**{"drain_seconds": 5, "decode_threads": 2} | settings)
    app = create_app(chosen, detector, loader)
    transport = httpx.ASGITransport(app)
    client = httpx.AsyncClient(transport=transport, base_url="http://test", timeout=20)
    async with app.router.lifespan_context(app), client:
        served = Served(app, client, detector)
        try:
            if ready:
                await served.ready()
            yield served
        finally:
            detector.let_go()

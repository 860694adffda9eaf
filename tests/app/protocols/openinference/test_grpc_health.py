"""grpc.health.v1 on the gRPC port, by the bytes of its messages: needs no key, follows /health/ready."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from app.protocols.openinference.grpc import health
from app.protocols.openinference.grpc.server import listen
from tests.support.fakes import FakeDetector
from tests.support.served import Serve, Served

CHECK, WATCH = (f"/grpc.health.v1.Health/{method}" for method in ("Check", "Watch"))
NAMED = b"\x0a\x04fake"  # HealthCheckRequest with a service
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


@asynccontextmanager
async def channel_to(served: Served) -> AsyncIterator[grpc.aio.Channel]:
    server, port = await listen(served.app.state.service, served.app.state.stream_slots, "127.0.0.1", 0)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


async def test_health_follows_readiness(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "INTERVAL_SECONDS", 0.01)
    detector = FakeDetector()
    detector.warm.clear()
    async with serve(detector, ready=False, api_keys="secret") as served, channel_to(served) as channel:
        check, watching = channel.unary_unary(CHECK), channel.unary_stream(WATCH)(b"")
        assert await watching.read() == await check(b"") == NOT_SERVING
        detector.warm.set()
        assert await watching.read() == SERVING
        assert await check(NAMED) == SERVING
        served.app.state.service.stopping = True  # it lingers: requests are still taken
        assert await watching.read() == await check(b"") == NOT_SERVING


async def test_watches_are_bounded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "WATCHES", 1)
    async with channel_to(served) as channel:
        watch = channel.unary_stream(WATCH)
        first = watch(b"")
        assert await first.read() == SERVING
        with pytest.raises(grpc.aio.AioRpcError, match="call Check instead"):
            await watch(b"").read()
        assert await channel.unary_unary(CHECK)(b"") == SERVING

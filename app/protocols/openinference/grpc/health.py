"""The service grpc.health.v1.Health, for probes and load balancers: Check and Watch.

Both are answered from the headers of a call, for every name of a service: gRPC collects a message before it
shows it, and a stranger's must not take memory. Without messages to read, two constants are the protocol.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

SERVICE = "grpc.health.v1.Health"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"  # HealthCheckResponse: the field `status` is 1 or 2
WATCHES = 100  # open calls of Watch, which have shown no key
INTERVAL_SECONDS = 1.0  # between looks at the state while a client watches


def health_handler(is_ready: Callable[[], bool]) -> Any:
    """The handler of the service: SERVING while `is_ready`, as /health/ready answers 200."""
    watching: set[object] = set()

    def status() -> bytes:
        return SERVING if is_ready() else NOT_SERVING

    async def check(requests: object, context: grpc.aio.ServicerContext) -> bytes:
        return status()

    async def watch(requests: object, context: grpc.aio.ServicerContext) -> None:
        if len(watching) >= WATCHES:
            detail = f"{WATCHES} clients watch already; call Check instead"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, detail)
        watching.add(context)
        try:
            await _send_changes(status, context)
        finally:
            watching.discard(context)

    methods = {
        "Check": grpc.stream_unary_rpc_method_handler(check),
        "Watch": grpc.stream_stream_rpc_method_handler(watch),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


async def _send_changes(status: Callable[[], bytes], context: grpc.aio.ServicerContext) -> None:
    """Send the status at once, and each other one, until the client or the server ends the call."""
    sent = None
    while True:
        if (now := status()) != sent:
            await context.write(now)
            sent = now
        await asyncio.sleep(INTERVAL_SECONDS)

"""The gRPC port while the app runs: it is opened by the settings and closed with the app."""

import asyncio
from typing import Any

from app.protocols.openinference.shared_memory import SharedMemory
from app.serving.service import DetectionService
from app.serving.streams import StreamSlots


async def listen(service: DetectionService, slots: StreamSlots, memory: SharedMemory | None) -> Any:
    """The gRPC server, if the settings have a port for it; raises OSError if the port is taken.

    It listens at once or, as RCNN_LISTEN may say, when the service is ready.
    """
    settings = service.settings
    if not settings.grpc_port:
        return None
    if settings.listen == "ready":
        await service.started()
        if not service.ready:
            return None
    from app.protocols.openinference.grpc.server import listen as serve  # an optional dependency

    server, _ = await serve(service, slots, settings.host, settings.grpc_port, memory)
    return server


async def stop(listening: "asyncio.Task[Any]", seconds: float) -> None:
    """End the server, with so many seconds for its last responses, or the wait for it."""
    listening.cancel()  # nothing, if it is done
    await asyncio.wait({listening})
    server = None if listening.cancelled() or listening.exception() else listening.result()
    if server is not None:
        await server.stop(seconds)

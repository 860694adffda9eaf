"""Triton's shared memory over gRPC: no region is ever registered, and a client that asks for one is told why.

All are answered from the headers of a call: a stranger's message must not take memory. An empty message is a
status without regions.
"""

from typing import Any

import grpc

from app.protocols.openinference.grpc.messages import SERVICE
from app.protocols.openinference.inference import NO_SHARED_MEMORY

KINDS = ("SystemSharedMemory", "CudaSharedMemory")


def shared_memory_handler() -> Any:
    """The handler of these methods."""
    nothing = grpc.stream_unary_rpc_method_handler(_nothing)
    methods = {f"{kind}{method}": nothing for kind in KINDS for method in ("Status", "Unregister")}
    methods |= {f"{kind}Register": grpc.stream_unary_rpc_method_handler(_refuse) for kind in KINDS}
    return grpc.method_handlers_generic_handler(SERVICE, methods)


async def _nothing(requests: object, context: grpc.aio.ServicerContext) -> bytes:
    return b""


async def _refuse(requests: object, context: grpc.aio.ServicerContext) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, NO_SHARED_MEMORY)

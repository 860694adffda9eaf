"""The methods of Triton's shared memory: of the system for clients on this machine; a GPU's is refused."""

from app.errors import InvalidParameter
from app.protocols.openinference.grpc.calls import CallContext
from app.protocols.openinference.grpc.proto import grpc_service_pb2 as pb
from app.protocols.openinference.inference import NO_SHARED_MEMORY
from app.protocols.openinference.shared_memory import Region, available
from app.serving.service import DetectionService


async def system_status(
    service: DetectionService, request: pb.SystemSharedMemoryStatusRequest, call: CallContext
) -> pb.SystemSharedMemoryStatusResponse:
    """The regions of all clients, or that of a name; none for a client elsewhere."""
    found = available(call.memory).status(request.name) if call.memory or request.name else []
    message = pb.SystemSharedMemoryStatusResponse.RegionStatus
    return pb.SystemSharedMemoryStatusResponse(
        regions={region.name: message(**vars(region)) for region in found}
    )


async def system_register(
    service: DetectionService, request: pb.SystemSharedMemoryRegisterRequest, call: CallContext
) -> pb.SystemSharedMemoryRegisterResponse:
    """Register a part of a file."""
    region = Region(request.name, request.key, request.offset, request.byte_size)
    available(call.memory).register(region)
    return pb.SystemSharedMemoryRegisterResponse()


async def system_unregister(
    service: DetectionService, request: pb.SystemSharedMemoryUnregisterRequest, call: CallContext
) -> pb.SystemSharedMemoryUnregisterResponse:
    """Forget a region, or all."""
    if call.memory is not None:
        call.memory.unregister(request.name)
    return pb.SystemSharedMemoryUnregisterResponse()


async def cuda_status(
    service: DetectionService, request: pb.CudaSharedMemoryStatusRequest, call: CallContext
) -> pb.CudaSharedMemoryStatusResponse:
    """No region of a GPU's memory."""
    return pb.CudaSharedMemoryStatusResponse()


async def cuda_register(
    service: DetectionService, request: pb.CudaSharedMemoryRegisterRequest, call: CallContext
) -> pb.CudaSharedMemoryRegisterResponse:
    """Refused: memory of a GPU is not served."""
    raise InvalidParameter(NO_SHARED_MEMORY)


async def cuda_unregister(
    service: DetectionService, request: pb.CudaSharedMemoryUnregisterRequest, call: CallContext
) -> pb.CudaSharedMemoryUnregisterResponse:
    """Nothing to do; clients call it when they begin."""
    return pb.CudaSharedMemoryUnregisterResponse()

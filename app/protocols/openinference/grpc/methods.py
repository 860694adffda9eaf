"""The methods of GRPCInferenceService: a message in, a message out, with the same service as every route."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool

from app.errors import InvalidParameter
from app.protocols.openinference import repository
from app.protocols.openinference.grpc import shared_memory
from app.protocols.openinference.grpc.calls import CallContext
from app.protocols.openinference.grpc.messages import byte_values
from app.protocols.openinference.grpc.proto import grpc_service_pb2 as pb
from app.protocols.openinference.inference import (
    Parameters,
    model_config,
    model_metadata,
    output_names,
    outputs,
    read_parameters,
    resolve_deadline,
    server_metadata,
)
from app.protocols.openinference.shared_memory import Part, available
from app.protocols.openinference.statistics import model_statistics
from app.protocols.openinference.tensors import DATATYPES, Tensor, check_inputs, raw, read_images
from app.schemas.limits import MAX_TENSOR_INPUTS, MAX_TENSOR_OUTPUTS, MAX_TENSOR_PARAMETERS
from app.serving.request import Source
from app.serving.service import DetectionService
from app.transport.threads import run_sized

SHARED_REGION, SHARED_BYTES, SHARED_OFFSET = (
    f"shared_memory_{part}" for part in ("region", "byte_size", "offset")
)
Method = Callable[[DetectionService, Any, CallContext], Awaitable[Any]]


async def server_live(
    service: DetectionService, request: pb.ServerLiveRequest, call: CallContext
) -> pb.ServerLiveResponse:
    """True whenever the event loop runs."""
    return pb.ServerLiveResponse(live=True)


async def server_ready(
    service: DetectionService, request: pb.ServerReadyRequest, call: CallContext
) -> pb.ServerReadyResponse:
    """Whether the service accepts requests."""
    return pb.ServerReadyResponse(ready=service.ready)


async def model_ready(
    service: DetectionService, request: pb.ModelReadyRequest, call: CallContext
) -> pb.ModelReadyResponse:
    """Whether the model accepts requests; not while it loads. UnknownModel for one that is not loaded."""
    if service.models.serving is not None:
        service.find_model(request.name, request.version)
    return pb.ModelReadyResponse(ready=service.ready)


async def server_metadata_of(
    service: DetectionService, request: pb.ServerMetadataRequest, call: CallContext
) -> pb.ServerMetadataResponse:
    """Name, version and extensions."""
    return pb.ServerMetadataResponse(**server_metadata())


async def model_metadata_of(
    service: DetectionService, request: pb.ModelMetadataRequest, call: CallContext
) -> pb.ModelMetadataResponse:
    """The model's inputs and outputs."""
    return pb.ModelMetadataResponse(**model_metadata(service.find_model(request.name, request.version)))


async def model_config_of(
    service: DetectionService, request: pb.ModelConfigRequest, call: CallContext
) -> pb.ModelConfigResponse:
    """The same, as Triton's model configuration."""
    model = service.find_model(request.name, request.version)
    return pb.ModelConfigResponse(config=model_config(model))


async def model_infer(
    service: DetectionService, request: pb.ModelInferRequest, call: CallContext
) -> pb.ModelInferResponse:
    """Detect within the call's own deadline; the end of the call cancels its queued work."""
    _check_counts(request)
    options = _options(service, request, call)
    names = output_names([_output_name(output) for output in request.outputs])
    deadline = service.deadline_of(options, call.started)
    model = await service.model_for(request.model_name, request.model_version, deadline)
    plan = service.plan(options, call.started, model=model)
    check_inputs([tensor.name for tensor in request.inputs])
    with service.bodies.users.hold(_shared_bytes(request, call), call.nbytes):
        images = await _images(request, call)
        found = outputs(await service.pipeline.detect_all(images, plan), options)
    response = pb.ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
    for name in names:
        array = found[name]
        response.outputs.add(name=name, datatype=DATATYPES[array.dtype], shape=array.shape)
        response.raw_output_contents.append(raw(array))
    return response


async def model_statistics_of(
    service: DetectionService, request: pb.ModelStatisticsRequest, call: CallContext
) -> pb.ModelStatisticsResponse:
    """What the model has done since it was loaded, or all of them without a name."""
    return pb.ModelStatisticsResponse(**model_statistics(service, request.name, request.version))


async def repository_index(
    service: DetectionService, request: pb.RepositoryIndexRequest, call: CallContext
) -> pb.RepositoryIndexResponse:
    """Every model that can be loaded."""
    rows = await repository.index(service, request.ready)
    return pb.RepositoryIndexResponse(models=[vars(row) for row in rows])


async def repository_load(
    service: DetectionService, request: pb.RepositoryModelLoadRequest, call: CallContext
) -> pb.RepositoryModelLoadResponse:
    """Load a model; the load continues where the call's deadline passes."""
    await repository.load(service, request.model_name, request.parameters)
    return pb.RepositoryModelLoadResponse()


async def repository_unload(
    service: DetectionService, request: pb.RepositoryModelUnloadRequest, call: CallContext
) -> pb.RepositoryModelUnloadResponse:
    """Nothing to do for a model that is not loaded; the default one cannot be unloaded."""
    repository.refuse_parameters(request.parameters, ("unload_dependents",))
    await repository.unload(service, request.model_name)
    return pb.RepositoryModelUnloadResponse()


METHODS: dict[str, Method] = {
    "ServerLive": server_live,
    "ServerReady": server_ready,
    "ModelReady": model_ready,
    "ServerMetadata": server_metadata_of,
    "ModelMetadata": model_metadata_of,
    "ModelConfig": model_config_of,
    "ModelInfer": model_infer,
    "ModelStatistics": model_statistics_of,
    "RepositoryIndex": repository_index,
    "RepositoryModelLoad": repository_load,
    "RepositoryModelUnload": repository_unload,
    "SystemSharedMemoryStatus": shared_memory.system_status,
    "SystemSharedMemoryRegister": shared_memory.system_register,
    "SystemSharedMemoryUnregister": shared_memory.system_unregister,
    "CudaSharedMemoryStatus": shared_memory.cuda_status,
    "CudaSharedMemoryRegister": shared_memory.cuda_register,
    "CudaSharedMemoryUnregister": shared_memory.cuda_unregister,
}
OPEN = ("ServerLive", "ServerReady")
"""Methods that need no key, as /health."""
ADMITTED = ("ModelInfer",)
"""Methods that wait for capacity before their message is read."""
ADMIN = ("RepositoryModelLoad", "RepositoryModelUnload")
"""Methods that need one of RCNN_ADMIN_KEYS."""


def _check_counts(request: pb.ModelInferRequest) -> None:
    """Raise InvalidParameter for more items than any request needs, before anything is built of them."""
    for name, items, limit in (
        ("inputs", request.inputs, MAX_TENSOR_INPUTS),
        ("outputs", request.outputs, MAX_TENSOR_OUTPUTS),
        ("parameters", request.parameters, MAX_TENSOR_PARAMETERS),
    ):
        if len(items) > limit:
            raise InvalidParameter(f"{name}: {len(items)} were sent, at most {limit} are allowed")


def _options(service: DetectionService, request: pb.ModelInferRequest, call: CallContext) -> Parameters:
    """The options of the message, with the time and the priority of the call."""
    parameters = read_parameters(_parameters(request.parameters))
    if parameters.priority is None and call.priority is not None:
        parameters = parameters.model_copy(update={"priority": call.priority})
    return resolve_deadline(parameters, call.seconds_of(service.settings.timeout_ms / 1000) * 1000)


def _shared_bytes(request: pb.ModelInferRequest, call: CallContext) -> int:
    """The bytes of the input that are in shared memory; raises ServiceError if they may not be read."""
    part = _part(request.inputs[0])
    return 0 if part is None else available(call.memory).size(part)


async def _images(request: pb.ModelInferRequest, call: CallContext) -> list[Source]:
    """The images; an input in shared memory, which is read on a thread, has no `raw_input_contents`."""
    tensor, part = request.inputs[0], _part(request.inputs[0])
    sent = 0 if part else 1
    if request.raw_input_contents and len(request.raw_input_contents) != sent:
        raise InvalidParameter(
            f"raw_input_contents has {len(request.raw_input_contents)} entries for {sent} inputs; give "
            "one for each input, or none"
        )
    if part is not None:
        shared = await run_in_threadpool(available(call.memory).read, part)
        return await run_sized(len(shared), _read, tensor, shared)
    content = request.raw_input_contents[0] if request.raw_input_contents else None
    return await run_sized(call.nbytes, _read, tensor, content)


def _read(tensor: pb.ModelInferRequest.InferInputTensor, content: bytes | None) -> list[Source]:
    """The images of an input; None: its content is in the tensor itself."""
    found = _contents(tensor) if content is None else content
    return read_images(Tensor(tensor.name, tensor.datatype, list(tensor.shape), found))


def _part(tensor: pb.ModelInferRequest.InferInputTensor) -> Part | None:
    """Where the input is in shared memory, if it is there."""
    if SHARED_REGION not in tensor.parameters:
        return None
    offset, size = (
        tensor.parameters[name].int64_param if name in tensor.parameters else 0
        for name in (SHARED_OFFSET, SHARED_BYTES)
    )
    return Part(tensor.parameters[SHARED_REGION].string_param, offset, size)


def _contents(tensor: pb.ModelInferRequest.InferInputTensor) -> bytes | list[bytes]:
    """The elements, or one byte for each number."""
    contents: Any = tensor.contents  # its numbers are packed: messages.request_class
    if tensor.datatype == "BYTES":
        return list(contents.bytes_contents)
    return byte_values(b"".join(contents.uint_contents))


def _output_name(output: pb.ModelInferRequest.InferRequestedOutputTensor) -> str:
    if set(output.parameters) & {"classification", "shared_memory_region"}:
        raise InvalidParameter("outputs: classification and shared memory are not supported; leave them out")
    return str(output.name)


def _parameters(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    """The values by their names; None for a parameter without a value."""
    fields = {name: value.WhichOneof("parameter_choice") for name, value in parameters.items()}
    return {name: getattr(parameters[name], field) if field else None for name, field in fields.items()}

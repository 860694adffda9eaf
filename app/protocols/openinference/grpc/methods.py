"""The methods of GRPCInferenceService: a message in, a message out, with the same service as every route."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import InvalidParameter
from app.protocols.openinference import repository
from app.protocols.openinference.grpc.proto import grpc_service_pb2 as pb
from app.protocols.openinference.inference import (
    check_model,
    model_config,
    model_metadata,
    output_names,
    outputs,
    read_parameters,
    resolve_deadline,
    server_metadata,
)
from app.protocols.openinference.tensors import DATATYPES, Tensor, raw, read_images
from app.serving.request import Source
from app.serving.service import DetectionService


@dataclass(frozen=True)
class CallContext:
    """A call apart from its message: when it began (monotonic), and seconds until its deadline, if any."""

    started: float
    seconds_left: float | None


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
    return pb.ServerReadyResponse(ready=service.state == "ok")


async def model_ready(
    service: DetectionService, request: pb.ModelReadyRequest, call: CallContext
) -> pb.ModelReadyResponse:
    """Whether the model accepts requests; not while it loads. NotFound for another one."""
    if service.models.serving is not None:
        check_model(service, request.name, request.version)
    return pb.ModelReadyResponse(ready=service.state == "ok")


async def server_metadata_of(
    service: DetectionService, request: pb.ServerMetadataRequest, call: CallContext
) -> pb.ServerMetadataResponse:
    """Name, version and extensions."""
    return pb.ServerMetadataResponse(**server_metadata())


async def model_metadata_of(
    service: DetectionService, request: pb.ModelMetadataRequest, call: CallContext
) -> pb.ModelMetadataResponse:
    """The model's inputs and outputs."""
    check_model(service, request.name, request.version)
    return pb.ModelMetadataResponse(**model_metadata(service))


async def model_config_of(
    service: DetectionService, request: pb.ModelConfigRequest, call: CallContext
) -> pb.ModelConfigResponse:
    """The same, as Triton's model configuration."""
    check_model(service, request.name, request.version)
    return pb.ModelConfigResponse(config=model_config(service))


async def model_infer(
    service: DetectionService, request: pb.ModelInferRequest, call: CallContext
) -> pb.ModelInferResponse:
    """Detect within the call's own deadline; the end of the call cancels its queued work."""
    limit_ms: float = service.settings.timeout_ms
    limit_ms = limit_ms if call.seconds_left is None else min(limit_ms, call.seconds_left * 1000)
    options = resolve_deadline(read_parameters(_parameters(request.parameters)), limit_ms)
    names = output_names([_output_name(output) for output in request.outputs])
    await service.wait_for_capacity(call.started, options.priority)
    check_model(service, request.model_name, request.model_version)
    model = service.ready_model()
    plan = service.plan(options, call.started, model=model)
    found = outputs(await service.pipeline.detect_all(_images(request), plan), options)
    response = pb.ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
    for name in names:
        array = found[name]
        response.outputs.add(name=name, datatype=DATATYPES[array.dtype], shape=array.shape)
        response.raw_output_contents.append(raw(array))
    return response


async def repository_index(
    service: DetectionService, request: pb.RepositoryIndexRequest, call: CallContext
) -> pb.RepositoryIndexResponse:
    """Every model that can be loaded."""
    rows = await repository.index(service, request.ready)
    return pb.RepositoryIndexResponse(models=[vars(row) for row in rows])


async def repository_load(
    service: DetectionService, request: pb.RepositoryModelLoadRequest, call: CallContext
) -> pb.RepositoryModelLoadResponse:
    """Serve another model; the load continues where the call's deadline passes."""
    await repository.load(service, request.model_name, request.parameters)
    return pb.RepositoryModelLoadResponse()


async def repository_unload(
    service: DetectionService, request: pb.RepositoryModelUnloadRequest, call: CallContext
) -> pb.RepositoryModelUnloadResponse:
    """Nothing to do for a model that does not serve; the one that serves cannot be unloaded."""
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
    "RepositoryIndex": repository_index,
    "RepositoryModelLoad": repository_load,
    "RepositoryModelUnload": repository_unload,
}
OPEN = ("ServerLive", "ServerReady")
"""Methods that need no key, as /health."""
ADMIN = ("RepositoryModelLoad", "RepositoryModelUnload")
"""Methods that need one of RCNN_ADMIN_KEYS."""


def _images(request: pb.ModelInferRequest) -> list[Source]:
    raw_contents = request.raw_input_contents
    if raw_contents and len(raw_contents) != len(request.inputs):
        raise InvalidParameter(
            f"raw_input_contents has {len(raw_contents)} entries for {len(request.inputs)} inputs; give "
            "one for each input, or none"
        )
    tensors = []
    for index, tensor in enumerate(request.inputs):
        if "shared_memory_region" in tensor.parameters:
            raise InvalidParameter("inputs: shared memory is not supported; send the content in the message")
        content = raw_contents[index] if raw_contents else _contents(tensor)
        tensors.append(Tensor(tensor.name, tensor.datatype, list(tensor.shape), content))
    return read_images(tensors)


def _contents(tensor: pb.ModelInferRequest.InferInputTensor) -> list[Any]:
    contents = tensor.contents
    return list(contents.bytes_contents if tensor.datatype == "BYTES" else contents.uint_contents)


def _output_name(output: pb.ModelInferRequest.InferRequestedOutputTensor) -> str:
    if set(output.parameters) & {"classification", "shared_memory_region"}:
        raise InvalidParameter("outputs: classification and shared memory are not supported; leave them out")
    return str(output.name)


def _parameters(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    """The values by their names; None for a parameter without a value."""
    fields = {name: value.WhichOneof("parameter_choice") for name, value in parameters.items()}
    return {name: getattr(parameters[name], field) if field else None for name, field in fields.items()}

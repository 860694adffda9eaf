"""The methods of GRPCInferenceService: a message in, a message out, over the same service as every route."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from app.errors import InvalidParameter
from app.protocols.openinference import repository
from app.protocols.openinference.grpc.messages import messages
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
    """A call apart from its message: when it began (monotonic), and how many seconds its client waits."""

    started: float
    patience: float | None


Method = Callable[[DetectionService, Any, CallContext], Awaitable[Any]]


async def server_live(service: DetectionService, request: Any, caller: CallContext) -> Any:
    """True whenever the event loop turns."""
    return messages().ServerLiveResponse(live=True)


async def server_ready(service: DetectionService, request: Any, caller: CallContext) -> Any:
    """Whether work is taken."""
    return messages().ServerReadyResponse(ready=service.state == "ok")


async def model_ready(service: DetectionService, request: Any, caller: CallContext) -> Any:
    """Whether the model takes work; not while it loads. NotFound for another one."""
    if service.models.serving is not None:
        check_model(service, request.name, request.version)
    return messages().ModelReadyResponse(ready=service.state == "ok")


async def server_metadata_of(service: DetectionService, request: Any, caller: CallContext) -> Any:
    """Name, version and extensions."""
    return messages().ServerMetadataResponse(**server_metadata())


async def model_metadata_of(service: DetectionService, request: Any, caller: CallContext) -> Any:
    """The model's inputs and outputs."""
    check_model(service, request.name, request.version)
    return messages().ModelMetadataResponse(**model_metadata(service))


async def model_config_of(service: DetectionService, request: Any, caller: CallContext) -> Any:
    """The same, as Triton's model configuration."""
    check_model(service, request.name, request.version)
    return messages().ModelConfigResponse(config=model_config(service))


async def model_infer(service: DetectionService, request: Any, caller: CallContext) -> Any:
    """Detect; the call's own deadline counts, and with the call the queued work is cancelled."""
    limit_ms: float = service.settings.timeout_ms
    limit_ms = limit_ms if caller.patience is None else min(limit_ms, caller.patience * 1000)
    options = resolve_deadline(read_parameters(_parameters(request.parameters)), limit_ms)
    names = output_names([_output(one) for one in request.outputs])
    await service.wait_for_capacity(caller.started, options.priority)
    check_model(service, request.model_name, request.model_version)
    model = service.ready_model()
    plan = service.plan(options, caller.started, model=model)
    found = outputs(await service.pipeline.detect_all(_images(request), plan), options)
    response = messages().ModelInferResponse(
        model_name=model.name, model_version=model.version, id=request.id
    )
    for name in names:
        array = found[name]
        response.outputs.add(name=name, datatype=DATATYPES[array.dtype], shape=array.shape)
        response.raw_output_contents.append(raw(array))
    return response


async def repository_index(service: DetectionService, request: Any, caller: CallContext) -> Any:
    """Every model that may be loaded."""
    rows = await repository.index(service, request.ready)
    return messages().RepositoryIndexResponse(models=[vars(row) for row in rows])


async def repository_load(service: DetectionService, request: Any, caller: CallContext) -> Any:
    """Serve another model; it goes on where the call's deadline passes."""
    await repository.load(service, request.model_name, request.parameters)
    return messages().RepositoryModelLoadResponse()


async def repository_unload(service: DetectionService, request: Any, caller: CallContext) -> Any:
    """Nothing to do for a model that does not serve; the one that does stays."""
    repository.refuse_parameters(request.parameters, ("unload_dependents",))
    await repository.unload(service, request.model_name)
    return messages().RepositoryModelUnloadResponse()


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
"""Methods that need no key, as of /health."""
ADMIN = ("RepositoryModelLoad", "RepositoryModelUnload")
"""Methods that need a key that may load models."""


def _images(request: Any) -> list[Source]:
    raw_contents = request.raw_input_contents
    if raw_contents and len(raw_contents) != len(request.inputs):
        raise InvalidParameter(
            f"raw_input_contents has {len(raw_contents)} entries for {len(request.inputs)} inputs; give "
            "one for each input, or none"
        )
    tensors = []
    for index, one in enumerate(request.inputs):
        if "shared_memory_region" in one.parameters:
            raise InvalidParameter("inputs: shared memory is not served; send the content in the message")
        content = raw_contents[index] if raw_contents else _listed(one)
        tensors.append(Tensor(one.name, one.datatype, list(one.shape), content))
    return read_images(tensors)


def _listed(one: Any) -> list[Any]:
    contents = one.contents
    return list(contents.bytes_contents if one.datatype == "BYTES" else contents.uint_contents)


def _output(one: Any) -> str:
    if set(one.parameters) & {"classification", "shared_memory_region"}:
        raise InvalidParameter("outputs: neither classification nor shared memory is served; leave it out")
    return str(one.name)


def _parameters(given: Any) -> dict[str, Any]:
    """The values by their names; None for one without a value."""
    chosen = {name: value.WhichOneof("parameter_choice") for name, value in given.items()}
    return {name: getattr(given[name], field) if field else None for name, field in chosen.items()}

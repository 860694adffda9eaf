"""The Open Inference Protocol V2 without its transports: parameters, padded outputs, metadata of models."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from app import version as app_version
from app.batching.item import HIGHEST, LOWEST, NORMAL
from app.errors import InvalidParameter
from app.protocols.openinference.tensors import IMAGE, IMAGES, Array, check_count
from app.schemas.limits import MAX_IMAGES, MAX_QUOTED, MAX_TENSOR_OUTPUTS, MAX_TENSOR_PARAMETERS
from app.schemas.options import DetectOptions
from app.serving.model import ANY_VERSION, LoadedModel
from app.serving.request import Outcome
from app.transport.query import read_options
from models.detections import convert_boxes

NO_SHARED_MEMORY = (
    "shared memory is not served here: send the content of the tensor in the request; "
    "RCNN_SHARED_MEMORY=true serves that of the system, for clients on the server's machine without a proxy"
)
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics")
INPUTS: dict[str, tuple[str, tuple[int, ...]]] = {IMAGE: ("BYTES", ()), IMAGES: ("UINT8", (-1, -1, 3))}
OUTPUTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "boxes": ("FP32", (-1, 4)),
    "labels": ("INT64", (-1,)),
    "scores": ("FP32", (-1,)),
    "num_detections": ("INT32", ()),
}
"""Datatypes, and shapes without the leading N."""

# Parameters for sequences and for binary data in the response, which are no options.
_TRANSPORT = ("sequence_id", "sequence_start", "sequence_end", "binary_data_output")


class Parameters(DetectOptions):
    """Parameters of an inference: the options of POST /detect, and two that the protocol reserves."""

    timeout: Annotated[int, Field(ge=0, lt=2**64)] = Field(
        default=0, description="Deadline in microseconds: a whole number; 0 for the server's own."
    )
    priority: Annotated[int, Field(ge=0, lt=2**64)] | None = Field(
        default=None,
        description="Scheduling priority: a whole number from 0 (lowest) to 2 (highest); any other counts as "
        "1, the default, as on other servers of this protocol.",
    )


def read_parameters(parameters: Mapping[str, Any]) -> Parameters:
    """The options among the parameters of a request; raises InvalidParameter."""
    check_count("parameters", len(parameters), MAX_TENSOR_PARAMETERS)
    values = {name: value for name, value in parameters.items() if name not in _TRANSPORT}
    if isinstance(values.get("classes"), str):
        values["classes"] = [values["classes"]]
    return read_options(values, Parameters)


def resolve_deadline(parameters: Parameters, limit_ms: float) -> Parameters:
    """The parameters with the earliest deadline of theirs and `limit_ms`, and a priority of the scheduler."""
    times = [limit_ms] if parameters.timeout_ms is None else [parameters.timeout_ms]
    times += [parameters.timeout / 1000] if parameters.timeout else []
    priority = parameters.priority
    if priority is not None and not LOWEST <= priority <= HIGHEST:
        priority = NORMAL
    return parameters.model_copy(update={"timeout_ms": max(1, math.ceil(min(times))), "priority": priority})


def output_names(requested: Sequence[str]) -> list[str]:
    """The requested outputs, all if none is named; raises InvalidParameter."""
    check_count("outputs", len(requested), MAX_TENSOR_OUTPUTS)
    unknown = [name for name in requested if name not in OUTPUTS]
    if unknown:
        raise InvalidParameter(
            f"outputs: no output {unknown[0][:MAX_QUOTED]!r}; allowed are {', '.join(OUTPUTS)}"
        )
    return list(dict.fromkeys(requested)) or list(OUTPUTS)


def outputs(outcomes: Sequence[Outcome], options: DetectOptions) -> dict[str, Array]:
    """All outputs, padded with 0 to the maximum number of detections of an image."""
    counts = [len(outcome.detections) for outcome in outcomes]
    shape = (len(outcomes), max(counts))
    boxes, labels = np.zeros((*shape, 4), np.float32), np.zeros(shape, np.int64)
    scores = np.zeros(shape, np.float32)
    for index, (count, outcome) in enumerate(zip(counts, outcomes, strict=True)):
        detections, size = outcome.detections, outcome.size if options.normalized else None
        boxes[index, :count] = convert_boxes(detections.boxes, options.box_format, size)
        labels[index, :count], scores[index, :count] = detections.labels, detections.scores
    return {
        "boxes": boxes,
        "labels": labels,
        "scores": scores,
        "num_detections": np.array(counts, np.int32),
    }


def server_metadata() -> dict[str, Any]:
    """Name, version and extensions of the server."""
    return {"name": "rcnn-serve", "version": app_version(), "extensions": list(EXTENSIONS)}


def model_metadata(model: LoadedModel) -> dict[str, Any]:
    """A model's inputs, of which a request has one, and its outputs."""
    return {
        "name": model.name,
        "versions": list(dict.fromkeys((ANY_VERSION, model.version))),
        "platform": _platform(model),
        "inputs": _tensors(INPUTS),
        "outputs": _tensors(OUTPUTS),
    }


def model_config(model: LoadedModel) -> dict[str, Any]:
    """The same as Triton's model configuration, whose dimensions have no batch."""
    return {
        "name": model.name,
        "platform": _platform(model),
        "max_batch_size": MAX_IMAGES,
        "input": [{**one, "optional": True} for one in _configured(INPUTS)],
        "output": _configured(OUTPUTS),
    }


def _platform(model: LoadedModel) -> str:
    return f"rcnn_serve_{model.detector.engine_name}"


def _tensors(described: Mapping[str, tuple[str, tuple[int, ...]]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "datatype": datatype, "shape": [-1, *shape]}
        for name, (datatype, shape) in described.items()
    ]


def _configured(described: Mapping[str, tuple[str, tuple[int, ...]]]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "data_type": f"TYPE_{'STRING' if datatype == 'BYTES' else datatype}",
            "dims": list(shape) or [1],
        }
        for name, (datatype, shape) in described.items()
    ]

"""The Open Inference Protocol V2 apart from its transports: parameters, padded outputs, what a model is."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field, ValidationError

from app import version
from app.batching.item import HIGHEST, LOWEST, NORMAL
from app.errors import InvalidParameter
from app.protocols.openinference.tensors import IMAGE, IMAGES, Array
from app.schemas.options import DetectOptions
from app.serving.model import ANY_VERSION
from app.serving.request import MAX_IMAGES, DetectParams, Outcome, params_of
from app.serving.service import DetectionService
from models.detections import convert_boxes

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "parameters")
INPUTS: dict[str, tuple[str, tuple[int, ...]]] = {IMAGE: ("BYTES", ()), IMAGES: ("UINT8", (-1, -1, 3))}
OUTPUTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "boxes": ("FP32", (-1, 4)),
    "labels": ("INT64", (-1,)),
    "scores": ("FP32", (-1,)),
    "num_detections": ("INT32", ()),
}
"""Datatypes, and shapes without the leading N."""

# What a client of a server with sequences, queues by priority and a binary answer says about these.
_TRANSPORT = ("sequence_id", "sequence_start", "sequence_end", "binary_data_output")


class Parameters(DetectOptions):
    """Parameters of an inference: the options of POST /detect, and two that the protocol reserves."""

    timeout: Annotated[int, Field(ge=0, lt=2**64)] = Field(
        default=0, description="Give up after so many microseconds; 0 leaves it to the server."
    )
    priority: Annotated[int, Field(ge=0, lt=2**64)] | None = Field(
        default=None,
        description="From 0, the lowest, to 2, the highest; 1 without it. Any other number is taken for 1, "
        "as the protocol's other servers take a number beyond their levels for their default.",
    )


def read_parameters(given: Mapping[str, Any]) -> Parameters:
    """The parameters of a request; raises InvalidParameter."""
    values = {name: value for name, value in given.items() if name not in _TRANSPORT}
    classes = values.get("classes")
    if isinstance(classes, str):
        values["classes"] = [classes]
    try:
        return Parameters.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:60]
        known = ", ".join(Parameters.model_fields)
        raise InvalidParameter(f"parameters: {where}: {first['msg']}; known are {known}") from error


def plan_params(given: Parameters, longest_ms: float) -> DetectParams:
    """What the parameters ask of the service, whose client or settings wait no more than `longest_ms`."""
    times = [longest_ms] if given.timeout_ms is None else [given.timeout_ms]
    times += [given.timeout / 1000] if given.timeout else []
    priority = None if given.priority is None else known_priority(given.priority)
    options = given.model_copy(update={"timeout_ms": max(1, math.ceil(min(times))), "priority": priority})
    return params_of(options)


def known_priority(given: object) -> int:
    """The priority that a parameter stands for, before or after it has been checked."""
    return given if isinstance(given, int) and LOWEST <= given <= HIGHEST else NORMAL


def wanted(names: Sequence[str]) -> list[str]:
    """The outputs to answer with, all if none is named; raises InvalidParameter."""
    unknown = [name for name in names if name not in OUTPUTS]
    if unknown:
        raise InvalidParameter(f"outputs: no output {unknown[0][:60]!r}; there are {', '.join(OUTPUTS)}")
    return list(dict.fromkeys(names)) or list(OUTPUTS)


def outputs(outcomes: Sequence[Outcome], options: DetectOptions) -> dict[str, Array]:
    """All outputs: D is the most detections of an image; what an image lacks of it is 0 throughout."""
    counts = [len(outcome.detections) for outcome in outcomes]
    shape = (len(outcomes), max(counts))
    boxes, labels = np.zeros((*shape, 4), np.float32), np.zeros(shape, np.int64)
    scores = np.zeros(shape, np.float32)
    for index, (count, outcome) in enumerate(zip(counts, outcomes, strict=True)):
        found, size = outcome.detections, outcome.size if options.normalized else None
        boxes[index, :count] = convert_boxes(found.boxes, options.box_format, size)
        labels[index, :count], scores[index, :count] = found.labels, found.scores
    return {
        "boxes": boxes,
        "labels": labels,
        "scores": scores,
        "num_detections": np.array(counts, np.int32),
    }


def check_model(service: DetectionService, name: str, wanted_version: str = "") -> None:
    """Raise NotFound for a model or a version that is not here, Retryable while there is none yet."""
    service.ready_model().check_name(name, wanted_version)


def server_metadata() -> dict[str, Any]:
    """Name, version and extensions of the server."""
    return {"name": "rcnn-serve", "version": version(), "extensions": list(EXTENSIONS)}


def model_metadata(service: DetectionService) -> dict[str, Any]:
    """The loaded model's tensors; a request has one of the two inputs."""
    return {
        "name": service.ready_model().name,
        "versions": list(dict.fromkeys((ANY_VERSION, service.ready_model().version))),
        "platform": _platform(service),
        "inputs": _tensors(INPUTS),
        "outputs": _tensors(OUTPUTS),
    }


def model_config(service: DetectionService) -> dict[str, Any]:
    """The same as Triton's model configuration has it: a dimension for the batch goes without saying."""
    return {
        "name": service.ready_model().name,
        "platform": _platform(service),
        "max_batch_size": MAX_IMAGES,
        "input": [{**one, "optional": True} for one in _configured(INPUTS)],
        "output": _configured(OUTPUTS),
    }


def _platform(service: DetectionService) -> str:
    return f"rcnn_serve_{service.ready_model().detector.engine_name}"


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

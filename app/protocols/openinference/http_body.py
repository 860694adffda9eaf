"""The bodies of the Open Inference Protocol over HTTP: JSON, and the binary data that may follow it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import to_json

from app.errors import InvalidParameter
from app.protocols.base import ParsedRequest
from app.protocols.openinference.inference import Parameters, output_names, read_parameters, resolve_deadline
from app.protocols.openinference.listed_numbers import cut_numbers, read_numbers
from app.protocols.openinference.shared_memory import Part, SharedMemory
from app.protocols.openinference.tensors import (
    DATATYPES,
    IMAGE,
    IMAGES,
    Array,
    Tensor,
    check_inputs,
    raw,
    read_images,
)
from app.schemas.limits import (
    MAX_NAME,
    MAX_QUOTED,
    MAX_TENSOR_INPUTS,
    MAX_TENSOR_OUTPUTS,
    MAX_TENSOR_PARAMETERS,
    MAX_TENSOR_RANK,
)
from app.schemas.options import DetectOptions
from app.serving.model import LoadedModel
from app.serving.request import Source
from app.transport.json_body import decode_base64, parse_json
from app.transport.responses import FRACTION_DECIMALS, PIXEL_DECIMALS, SCORE_DECIMALS, rounded

LENGTH = "Inference-Header-Content-Length"
USAGE = '{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["<base64>"]}]}'
Shape = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=MAX_TENSOR_RANK)]


class InputParameters(BaseModel):
    """Parameters of an input."""

    binary_data_size: int | None = Field(
        default=None, ge=0, description="Number of bytes of its content after the JSON, instead of `data`."
    )
    shared_memory_region: str | None = Field(
        default=None,
        max_length=MAX_NAME,
        description="A region of shared memory with its content, instead of `data`.",
    )
    shared_memory_byte_size: int = Field(default=0, ge=0, lt=2**63, description="Number of its bytes there.")
    shared_memory_offset: int = Field(default=0, ge=0, lt=2**63, description="Where they begin.")


class Input(BaseModel):
    """The one input of a request."""

    name: str = Field(
        max_length=MAX_NAME,
        description=f"{IMAGE}, or {IMAGES}.",
        json_schema_extra={"enum": [IMAGE, IMAGES]},
    )
    datatype: str = Field(
        max_length=MAX_NAME,
        description=f"BYTES for {IMAGE}, UINT8 for {IMAGES}.",
        json_schema_extra={"enum": ["BYTES", "UINT8"]},
    )
    shape: Shape = Field(description="[N], or [N, height, width, 3]; N is at most 32.")
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = Field(
        default=None, description=f"{IMAGE}: files in base64. {IMAGES}: numbers, flat or nested."
    )


class OutputParameters(BaseModel):
    """Parameters of an output."""

    binary_data: bool | None = Field(
        default=None, description="Whether its content follows the JSON as binary data."
    )
    classification: SkipJsonSchema[None] = None  # The classification extension is not supported.
    shared_memory_region: SkipJsonSchema[None] = None  # Only inputs may be in shared memory.


class Output(BaseModel):
    """A requested output."""

    name: str = Field(max_length=MAX_NAME, description="boxes, labels, scores or num_detections.")
    parameters: OutputParameters = OutputParameters()


class Inference(BaseModel):
    """A request; if binary data follow, its length is in the header Inference-Header-Content-Length."""

    id: str | None = Field(default=None, max_length=MAX_NAME)
    parameters: dict[str, Any] = Field(
        default={},
        max_length=MAX_TENSOR_PARAMETERS,
        description="The options of POST /detect; timeout (in microseconds); priority.",
    )
    inputs: list[Input] = Field(max_length=MAX_TENSOR_INPUTS)
    outputs: list[Output] = Field(default=[], max_length=MAX_TENSOR_OUTPUTS)


@dataclass(frozen=True, eq=False)
class ParsedInference(ParsedRequest):
    """A parsed request, with the encodings of the outputs that it requests.

    `part`: where its input is in shared memory; it has no images until that is read.
    """

    inference: Inference = field(default_factory=lambda: Inference(inputs=[]))
    part: Part | None = None


def read_inference(body: bytes, json_bytes: str | None, limit_ms: int) -> ParsedInference:
    """Parse a body; `json_bytes` is the value of the header, `limit_ms` the longest deadline."""
    if json_bytes is not None and json_bytes.strip() == "0":  # "raw binary": the body is the one input
        return ParsedInference([body], resolve_deadline(Parameters(), limit_ms))
    end = _json_end(body, json_bytes)
    text, numbers = cut_numbers(body[:end])
    inference = parse_json(text, Inference, USAGE)
    options = resolve_deadline(read_parameters(inference.parameters), limit_ms)
    output_names([output.name for output in inference.outputs])
    check_inputs([tensor.name for tensor in inference.inputs])
    content = _content(inference.inputs[0], body[end:], numbers)
    if isinstance(content, Part):
        return ParsedInference([], options, inference=inference, part=content)
    return ParsedInference(_images(inference, content), options, inference=inference)


def read_shared(parsed: ParsedInference, part: Part, memory: SharedMemory) -> ParsedInference:
    """The same request with the images that are in shared memory."""
    return replace(parsed, images=_images(parsed.inference, memory.read(part)))


def _images(inference: Inference, content: bytes | Sequence[Any] | Array) -> list[Source]:
    tensor = inference.inputs[0]
    return read_images(Tensor(tensor.name, tensor.datatype, tensor.shape, content))


def _json_end(body: bytes, json_bytes: str | None) -> int:
    if json_bytes is None:
        return len(body)
    text = json_bytes.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= len(body)):
        raise InvalidParameter(
            f"{LENGTH}: {text[:20]!r}; send the number of bytes of the JSON before the binary data: 0 to "
            f"{len(body)}"
        )
    return int(text)


def _content(tensor: Input, binary: bytes, numbers: bytes | None) -> bytes | Sequence[Any] | Array | Part:
    """Its data (cut out if it is `numbers`), the bytes after the JSON, or where it is in shared memory."""
    parameters = tensor.parameters
    size, region = parameters.binary_data_size, parameters.shared_memory_region
    if (size is not None) + (tensor.data is not None) + (region is not None) != 1:
        raise InvalidParameter(
            f"inputs: {tensor.name[:MAX_QUOTED]!r} has either `data`, a `binary_data_size` or a "
            "`shared_memory_region`"
        )
    if (size or 0) != len(binary):
        raise InvalidParameter(f"{len(binary)} bytes follow the JSON, but `binary_data_size` is {size or 0}")
    if region is not None:
        return Part(region, parameters.shared_memory_offset, parameters.shared_memory_byte_size)
    return _listed(tensor, numbers) if size is None else binary


def _listed(tensor: Input, numbers: bytes | None) -> Sequence[Any] | Array:
    if tensor.datatype != "BYTES":
        return _numbers(tensor, numbers) if numbers and not tensor.data else tensor.data or []
    return [decode_base64(text, f"inputs: {tensor.name[:MAX_QUOTED]}") for text in _flat(tensor.data or [])]


def _numbers(tensor: Input, numbers: bytes) -> Array:
    try:
        return read_numbers(numbers)
    except ValueError as error:
        raise InvalidParameter(
            f"inputs: {tensor.name[:MAX_QUOTED]!r}: its data must be whole numbers from 0 to 255, flat or "
            "nested as its shape"
        ) from error


def _flat(data: list[Any]) -> list[str]:
    """The texts of a list that may be nested as its shape [N, 1] is."""
    flat = [text for element in data for text in (element if isinstance(element, list) else [element])]
    if not all(isinstance(text, str) for text in flat):
        raise InvalidParameter(f"inputs: data of BYTES are texts in base64; send {USAGE}")
    return flat


def write_response(
    parsed: ParsedInference, outputs: Mapping[str, Array], model: LoadedModel
) -> tuple[bytes, int | None]:
    """The body, and the number of bytes of its JSON if binary data follow."""
    inference = parsed.inference
    default = inference.parameters.get("binary_data_output", False) is True
    as_binary = {output.name: output.parameters.binary_data for output in inference.outputs}
    described, binary = [], []
    for name in output_names(list(as_binary)):
        array = outputs[name]
        head = {"name": name, "datatype": DATATYPES[array.dtype], "shape": array.shape}
        requested = as_binary.get(name)
        if default if requested is None else requested:
            binary.append(raw(array))
            described.append({**head, "parameters": {"binary_data_size": len(binary[-1])}})
        else:
            described.append({**head, "data": _listed_values(name, array, parsed.options)})
    response = {"model_name": model.name, "model_version": model.version, "outputs": described}
    text = to_json(response | ({} if inference.id is None else {"id": inference.id}))
    return (b"".join([text, *binary]), len(text)) if binary else (text, None)


def _listed_values(name: str, array: Array, options: DetectOptions) -> list[Any]:
    flat = array.reshape(-1)
    if name == "scores":
        return rounded(flat, SCORE_DECIMALS)
    if name == "boxes":
        return rounded(flat, FRACTION_DECIMALS if options.normalized else PIXEL_DECIMALS)
    values: list[Any] = flat.tolist()
    return values

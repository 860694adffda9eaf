"""The bodies of the Open Inference Protocol over HTTP: JSON, and the binary data that may follow it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, Field
from pydantic_core import to_json

from app.errors import InvalidParameter
from app.protocols.base import ParsedRequest
from app.protocols.openinference.inference import Parameters, plan_params, read_parameters, wanted
from app.protocols.openinference.tensors import DATATYPES, IMAGE, IMAGES, Array, Tensor, raw, read_images
from app.serving.model import LoadedModel
from app.transport.body import decode_base64, parse_json
from app.transport.responses import FRACTION_DECIMALS, PIXEL_DECIMALS, SCORE_DECIMALS, rounded

LENGTH = "Inference-Header-Content-Length"
SHOWN = '{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["<base64>"]}]}'
Shape = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=8)]


class InputParameters(BaseModel):
    """Parameters of an input."""

    binary_data_size: int | None = Field(
        default=None, ge=0, description="So many bytes of its content follow the JSON, in place of `data`."
    )
    shared_memory_region: None = Field(default=None, description="Shared memory is not served.")


class Input(BaseModel):
    """The one input of a request."""

    name: str = Field(description=f"{IMAGE}, or {IMAGES}.", json_schema_extra={"enum": [IMAGE, IMAGES]})
    datatype: str = Field(
        description=f"BYTES for {IMAGE}, UINT8 for {IMAGES}.", json_schema_extra={"enum": ["BYTES", "UINT8"]}
    )
    shape: Shape = Field(description="[N], or [N, height, width, 3]; N is at most 32.")
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = Field(
        default=None, description=f"{IMAGE}: files in base64. {IMAGES}: numbers, flat or nested."
    )


class OutputParameters(BaseModel):
    """Parameters of an output."""

    binary_data: bool | None = Field(default=None, description="Whether its content follows the JSON.")
    classification: None = Field(default=None, description="The classification extension is not served.")
    shared_memory_region: None = Field(default=None, description="Shared memory is not served.")


class Output(BaseModel):
    """An output that is wanted."""

    name: str = Field(description="boxes, labels, scores or num_detections.")
    parameters: OutputParameters = OutputParameters()


class Inference(BaseModel):
    """A request; with the header Inference-Header-Content-Length, of so many bytes, before binary data."""

    id: str | None = None
    parameters: dict[str, Any] = Field(
        default={}, description="The options of POST /detect; timeout (in microseconds); priority."
    )
    inputs: list[Input]
    outputs: list[Output] = []


@dataclass(frozen=True, eq=False)
class ParsedInference(ParsedRequest):
    """What a request asks for, and how it wants the answer."""

    given: Inference = field(default_factory=lambda: Inference(inputs=[]))
    options: Parameters = field(default_factory=Parameters)


def read_inference(body: bytes, json_bytes: str | None, longest: int) -> ParsedInference:
    """What a body asks for; `json_bytes` is the header of that name, `longest` the most milliseconds."""
    if json_bytes is not None and json_bytes.strip() == "0":  # "raw binary": the body is the one input
        return ParsedInference([body], plan_params(Parameters(), longest))
    end = _json_end(body, json_bytes)
    given = parse_json(body[:end], Inference, SHOWN)
    options = read_parameters(given.parameters)
    wanted([one.name for one in given.outputs])
    images = read_images(_tensors(given, body[end:]))
    return ParsedInference(images, plan_params(options, longest), given=given, options=options)


def _json_end(body: bytes, json_bytes: str | None) -> int:
    if json_bytes is None:
        return len(body)
    text = json_bytes.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= len(body)):
        raise InvalidParameter(
            f"{LENGTH}: {text[:20]!r}; give the bytes of the JSON before the binary data: 0 to {len(body)}"
        )
    return int(text)


def _tensors(given: Inference, binary: bytes) -> list[Tensor]:
    """The inputs, each with its data or its share of the bytes behind the JSON."""
    tensors = []
    at = 0
    for one in given.inputs[:2]:
        size = one.parameters.binary_data_size
        if (size is None) == (one.data is None):
            raise InvalidParameter(f"inputs: {one.name[:60]!r} has either `data` or a `binary_data_size`")
        data = _listed(one) if size is None else binary[at : at + size]
        at += size or 0
        tensors.append(Tensor(one.name, one.datatype, one.shape, data))
    if at != len(binary):
        raise InvalidParameter(f"{len(binary)} bytes follow the JSON; its `binary_data_size` tell of {at}")
    return tensors


def _listed(one: Input) -> list[Any]:
    if one.datatype != "BYTES":
        return one.data or []
    texts = _flat(one.data or [])
    return [decode_base64(text, f"inputs: {one.name[:60]}") for text in texts]


def _flat(data: list[Any]) -> list[str]:
    """The texts of a list that may be nested as its shape [N, 1] is."""
    flat = [text for one in data for text in (one if isinstance(one, list) else [one])]
    if not all(isinstance(text, str) for text in flat):
        raise InvalidParameter(f"inputs: data of BYTES are texts in base64; send {SHOWN}")
    return flat


def write_answer(
    asked: ParsedInference, found: Mapping[str, Array], model: LoadedModel
) -> tuple[bytes, int | None]:
    """The body, and of how many bytes its JSON is if binary data follow it."""
    given, fallback = asked.given, asked.given.parameters.get("binary_data_output", False)
    wishes = {one.name: one.parameters.binary_data for one in given.outputs}
    described, binary = [], []
    for output in wanted(list(wishes)):
        array = found[output]
        head = {"name": output, "datatype": DATATYPES[array.dtype], "shape": array.shape}
        wish = wishes.get(output)
        if fallback is True if wish is None else wish:
            binary.append(raw(array))
            described.append({**head, "parameters": {"binary_data_size": len(binary[-1])}})
        else:
            described.append({**head, "data": _listed_values(output, array, asked.options)})
    answer = {"model_name": model.name, "model_version": model.version, "outputs": described}
    text = to_json(answer | ({} if given.id is None else {"id": given.id}))
    return (b"".join([text, *binary]), len(text)) if binary else (text, None)


def _listed_values(output: str, array: Array, options: Parameters) -> list[Any]:
    flat = array.reshape(-1)
    if output == "scores":
        return rounded(flat, SCORE_DECIMALS)
    if output == "boxes":
        return rounded(flat, FRACTION_DECIMALS if options.normalized else PIXEL_DECIMALS)
    values: list[Any] = flat.tolist()
    return values

"""POST /PROJECT/VERSION: the route of Roboflow's hosted API, as its older clients and `curl` examples use it.

The image is base64 in the body, the file of a form, or its address in the query. The model's name is
PROJECT/VERSION: an alias of RCNN_MODEL_ALIASES, or a model and a version of it.
"""

import time
from functools import partial
from typing import Annotated, Literal

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from app.errors import InvalidParameter
from app.protocols.base import ParsedRequest, run_detection
from app.protocols.roboflow.inference import ALSO, DIALECT, EXAMPLE, describe
from app.schemas.options import Count, DetectOptions
from app.serving.request import DrawnFormat
from app.transport.access import OfferedKeys, check_key_of
from app.transport.body import MULTIPART, media_type_of, read_form, read_within
from app.transport.json_body import decode_base64
from app.transport.openapi import EVERYWHERE, FILE, OF_DETECTION, OF_MODEL, protocol
from app.transport.responses import respond, write_sized
from app.transport.router import Router
from app.transport.threads import run_sized
from app.transport.url_images import fetch_image
from models.images.mistakes import starts_as_image

IMAGE = ("file", "image")
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class HostedOptions(BaseModel):
    """The query: thresholds are fractions, or above 1 percent; other keys are ignored."""

    api_key: str | None = Field(default=None, description="One of the keys in RCNN_API_KEYS.")
    confidence: Percent = Field(default=0.4, description="Minimum confidence: 0 to 1, or percent.")
    overlap: Percent = Field(default=0.3, description="IoU of NMS: 0 to 1, or percent.")
    max_detections: Count | None = Field(default=None, description="Maximum number of detections.")
    classes: str | None = Field(default=None, description="Names of classes, separated by commas.")
    format: Literal["json", "image", "image_and_json"] = Field(default="json", description="Response format.")
    image: str | None = Field(default=None, description="The image's http(s) address, if allowed.")

    def detection(self) -> DetectOptions:
        """The same as options of a detection."""
        return DetectOptions(
            score_threshold=_fraction(self.confidence),
            nms_threshold=_fraction(self.overlap),
            max_detections=self.max_detections,
            classes=[self.classes] if self.classes else [],
        )


# The key is in the query, as a rule: the route checks it itself.
router = Router("Roboflow", dialect=DIALECT, access=None, operations="roboflow_")


@router.post(
    "/{project}/{version:int}",
    summary="Detect objects (Roboflow, hosted API)",
    response_class=Response,
    responses=protocol(DIALECT, EXAMPLE, *OF_MODEL, *OF_DETECTION, *EVERYWHERE),
    openapi_extra={
        "requestBody": {
            "description": "The image as a file of a form, or in base64 as the whole body.",
            "content": {
                MULTIPART: {
                    "schema": {"title": "RoboflowForm", "type": "object", "properties": {"file": FILE}}
                }
            },
        }
    },
)
async def infer_hosted(
    request: Request,
    project: str,
    version: int,
    header_keys: OfferedKeys,
    options: Annotated[HostedOptions, Query()],
) -> Response:
    """One image of any of these forms; the response is that of POST /infer/object_detection."""
    keys = (*header_keys, options.api_key) if options.api_key else header_keys
    check_key_of(request, keys, ALSO)
    read = partial(_read, request, options)
    _, [outcome] = await run_detection(request, read, f"{project}/{version}")
    if options.format == "image":
        return respond(outcome.drawn or b"", "image/jpeg", outcome.timings)
    body = await write_sized([outcome], lambda: to_json(describe(outcome)))
    return respond(body, "application/json", outcome.timings)


async def _read(request: Request, options: HostedOptions, seconds: float) -> ParsedRequest:
    deadline = time.monotonic() + seconds
    draw: DrawnFormat | None = None if options.format == "json" else "jpeg"
    return ParsedRequest([await _image(request, options, deadline)], options.detection(), draw)


async def _image(request: Request, options: HostedOptions, deadline: float) -> bytes:
    seconds = max(0.0, deadline - time.monotonic())
    if options.image is not None:
        return await fetch_image(request, options.image, deadline)
    if media_type_of(request)[0] == MULTIPART:
        return (await read_form(request, seconds, IMAGE)).image(*IMAGE)
    body = await read_within(seconds, request.body())
    if not body:
        raise InvalidParameter(
            "no image; send it in base64 as the body, as the file of a form, or `image=URL`"
        )
    return body if starts_as_image(body) else await run_sized(len(body), _of_base64, body)


def _of_base64(body: bytes) -> bytes:
    return decode_base64(body.decode("latin-1").strip(), "the body")


def _fraction(value: float) -> float:
    """Percent as a fraction; 1 is 100 %, as of the original."""
    return value / 100 if value > 1 else value

"""Label Studio's ML backend: tasks in, predictions out, as the project's configuration names them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urljoin
from xml.etree import ElementTree

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from app.errors import Dialect, InvalidParameter, ServiceError
from app.protocols.base import ParsedRequest, run_detection
from app.schemas.exports import LabelStudioTags, labelstudio_region
from app.schemas.limits import MAX_IMAGES
from app.serving.request import Outcome
from app.settings.settings import Settings
from app.transport.body import read_within
from app.transport.context import pin_model, service_of
from app.transport.json_body import decode_base64, read_json
from app.transport.openapi import EVERYWHERE, OF_DETECTION, json_body, protocol
from app.transport.responses import names, rounded, scores
from app.transport.router import Router
from app.transport.url_images import Trusted, fetch_image
from models.detections import convert_boxes

SECONDS = 5.0  # for a body without an image
MAX_CONFIG = 65_536  # characters of a labelling configuration
USAGE = '{"tasks": [{"data": {"image": "/data/upload/1/a.jpg"}}], "label_config": "<View>…</View>"}'
CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="person"/></RectangleLabels></View>'
)
DECIMALS = 4  # of per cent: a hundredth of a pixel in an image of 10,000


def _error(error: ServiceError, request_id: str) -> dict[str, object]:
    return {"error": error.detail}


DIALECT = Dialect(_error)
EXAMPLE = {"results": [{"model_version": "shapes-18ef41130741", "score": 0.98, "result": []}]}

router = Router(
    "Label Studio",
    "Label Studio's ML backend, which pre-annotates its tasks.",
    dialect=DIALECT,
    operations="labelstudio_",
)


class Project(BaseModel):
    """What Label Studio sends when a project is connected; other keys, such as its token, are ignored."""

    config: str = Field(default="", max_length=MAX_CONFIG, alias="schema")


class SentTask(BaseModel):
    """A task; other keys are ignored."""

    data: dict[str, Any]


class Tasks(BaseModel):
    """A request for predictions; other keys are ignored."""

    tasks: list[SentTask] = Field(min_length=1, max_length=MAX_IMAGES)
    label_config: str = Field(max_length=MAX_CONFIG)


@dataclass(frozen=True)
class Control:
    """The names in a configuration: of its tags, the image's key in a task, its labels.

    `labels`: by their casefolded names; empty for any.
    """

    tags: LabelStudioTags
    key: str
    labels: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class ParsedTasks(ParsedRequest):
    """A parsed request for predictions."""

    control: Control | None = None


@router.post(
    "/setup",
    summary="Connect a project (Label Studio)",
    responses=protocol(
        DIALECT, {"model_version": "shapes-18ef41130741"}, "invalid_parameter", "loading", *EVERYWHERE
    ),
    openapi_extra={"requestBody": json_body(Project, "LabelStudio", {"schema": CONFIG})},
)
async def setup(request: Request) -> dict[str, str]:
    """The version of the default model; 422 for a configuration without RectangleLabels and an image."""
    body = await read_within(SECONDS, request.body())
    _control((await read_json(body, Project, USAGE)).config)
    model = await pin_model(request)
    return {"model_version": f"{model.name}-{model.version}"}


@router.post(
    "/predict",
    summary="Predict tasks (Label Studio)",
    responses=protocol(DIALECT, EXAMPLE, *OF_DETECTION, *EVERYWHERE),
    openapi_extra={
        "requestBody": json_body(
            Tasks,
            "LabelStudio",
            {"tasks": [{"data": {"image": "/data/upload/1/a.jpg"}}], "label_config": CONFIG},
        )
    },
)
async def predict(request: Request) -> dict[str, Any]:
    """A prediction for each task, in order; labels that the configuration does not have are left out."""
    parsed, outcomes = await run_detection(request, partial(_read, request))
    assert parsed.control is not None  # noqa: S101  # _read sets it
    return {"results": [_prediction(outcome, parsed.control) for outcome in outcomes]}


@router.post("/webhook", status_code=201, include_in_schema=False)
async def webhook() -> JSONResponse:
    """Events of a project are taken and ignored: nothing is trained here."""
    return JSONResponse({}, 201)


async def _read(request: Request, seconds: float) -> ParsedTasks:
    deadline = time.monotonic() + seconds
    body = await read_json(await read_within(seconds, request.body()), Tasks, USAGE)
    control = _control(body.label_config)
    addresses = [task.data.get(control.key) for task in body.tasks]
    images = [await _image(request, address, control.key, deadline) for address in addresses]
    return ParsedTasks(images, control=control)


async def _image(request: Request, address: object, key: str, deadline: float) -> bytes:
    """The image of a task: from Label Studio with its token, from elsewhere as RCNN_FETCH_URLS allows."""
    if not isinstance(address, str):
        raise InvalidParameter(f"a task has no text under `{key}` in its data; send the image's address")
    if address.startswith("data:"):
        return decode_base64(address, key)
    trusted = _label_studio(service_of(request).settings)
    if trusted is None and address.startswith("/"):
        raise InvalidParameter(f"{key}: set RCNN_LABEL_STUDIO_URL, from which tasks' images are fetched")
    return await fetch_image(request, urljoin(trusted.url if trusted else "", address), deadline, trusted)


def _label_studio(settings: Settings) -> Trusted | None:
    if settings.label_studio_url is None:
        return None
    token = settings.label_studio_token
    headers = {"Authorization": f"Token {token.get_secret_value()}"} if token else {}
    return Trusted(settings.label_studio_url, headers)


def _control(config: str) -> Control:
    """What a prediction needs of a labelling configuration; raises InvalidParameter."""
    if "<!doctype" in config.lower():
        raise InvalidParameter("label_config: it has a document type; leave it out")
    try:
        root = ElementTree.fromstring(config)  # noqa: S314  # no entities: they need a document type
    except ElementTree.ParseError as error:
        raise InvalidParameter(f"label_config: this is not XML ({error})") from error
    control, image = root.find(".//RectangleLabels"), root.find(".//Image")
    if control is None or image is None:
        raise InvalidParameter("label_config: it needs an <Image> and <RectangleLabels> for its boxes")
    labels = [label.get("value", "") for label in control.iter("Label")]
    return Control(
        LabelStudioTags(control.get("name", ""), control.get("toName", image.get("name", ""))),
        image.get("value", "").lstrip("$"),
        {label.casefold(): label for label in labels},
    )


def _prediction(outcome: Outcome, control: Control) -> dict[str, Any]:
    boxes = rounded(convert_boxes(outcome.detections.boxes, "xywh", outcome.size) * 100, DECIMALS)
    columns = zip(names(outcome), scores(outcome), boxes, strict=True)
    regions = [
        labelstudio_region(control.tags, outcome.size, control.labels.get(name.casefold(), name), score, box)
        for name, score, box in columns
        if not control.labels or name.casefold() in control.labels
    ]
    best = max((region["score"] for region in regions), default=0.0)
    version = f"{outcome.model.name}-{outcome.model.version}"
    return {"model_version": version, "score": best, "result": regions}

"""The API, documented: /openapi.json, /docs, and what no signature can say (bodies, options, problems)."""

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from pydantic import BaseModel

from app.errors import PROBLEMS, Dialect, NotFound, ServiceError, error_classes
from app.schemas import DetectOptions, DetectResponse, ImageBody, Problem

FILE = {"type": "string", "format": "binary"}
_FILES = {"type": "array", "items": FILE, "minItems": 1}

IMAGE_BODY: dict[str, Any] = {
    "required": True,
    "description": "The image file: JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"image": FILE},
                "required": ["image"],
                "additionalProperties": False,
            }
        },
        "image/*": {"schema": FILE},
        "application/octet-stream": {"schema": FILE},
        "application/json": {"schema": ImageBody.model_json_schema()},
    },
}
IMAGES_BODY = {
    "required": True,
    "description": "The image files, each as a part `image`.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"image": _FILES},
                "required": ["image"],
                "additionalProperties": False,
            }
        }
    },
}
VIDEO_BODY = {
    **IMAGE_BODY,
    "description": "A video (MP4, QuickTime, WebM, Matroska, AVI; needs the extra `video`), an animated GIF, "
    "WebP or PNG, a TIFF of several pages, or a single image.",
    "content": {**IMAGE_BODY["content"], "video/*": {"schema": FILE}},
}
TEXTS = ("application/xml", "text/csv", "text/plain")  # of app/exports.py, beside JSON
EXAMPLE_IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFUlEQVR42mM8EaDBgA0wMeAAg1MCAP8oAVCGkvfKAAAAAElFTkSuQmCC"
)
"""A PNG of 8 x 8 pixels in base64."""

EXAMPLE_VERSION = "3b1f0c9a52de"
DETECTION_EXAMPLE = {
    "boxes": [[12.5, 30.0, 200.25, 310.75]],
    "labels": [1],
    "scores": [0.98],
    "names": ["person"],
    "image": {"width": 640, "height": 480},
    "model": "coco-r50-fpn",
    "model_version": EXAMPLE_VERSION,
    "box_format": "xyxy",
    "timings_ms": {
        "decode": 3.1,
        "queue": 0.2,
        "inference": 41.0,
        "postprocess": 0.4,
        "total": 45.2,
    },
    "request_id": "6f1c0c3f4f5e4a0e9c6a2b1d8e7f0a1b",
}
DETECTIONS = {
    "description": "Detections as JSON, or the image with its detections drawn (`format`, or `Accept`)",
    "content": {
        "application/json": {
            "schema": {
                "anyOf": [
                    {"$ref": f"#/components/schemas/{DetectResponse.__name__}"},
                    {"type": "object", "description": "format=coco"},
                    {"type": "array", "description": "format=labelstudio"},
                ]
            },
            "example": DETECTION_EXAMPLE,
        },
        "application/geo+json": {"schema": {"type": "object"}},
        "image/png": {"schema": FILE},
        "image/jpeg": {"schema": FILE},
    }
    | {media_type: {"schema": {"type": "string"}} for media_type in TEXTS},
}

FRAMES = {
    "description": "A line of JSON for each frame and one that says why it was the last, or the frames with "
    "their detections drawn as parts of multipart/x-mixed-replace (`format`, or `Accept`)",
    "content": {
        "application/x-ndjson": {
            "schema": {"type": "string"},
            "example": "\n".join(
                json.dumps(line)
                for line in (
                    {"frame": 0, "seconds": 0.0, **DETECTION_EXAMPLE},
                    {"end": "complete", "frames": 1},
                )
            ),
        },
        "multipart/x-mixed-replace": {"schema": FILE},
    },
}

ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")
EVERYWHERE = ("unauthorized", "internal")
OF_DETECTION = (
    *("invalid_image", "body_too_large", "image_too_large", "unsupported_media_type", "invalid_parameter"),
    *("overloaded", "loading", "draining", "failing", "deadline_exceeded"),
)

# Swagger UI starts from a script in its page and styles as it goes; nothing may come from elsewhere.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; frame-ancestors 'none'"
)

router = APIRouter(include_in_schema=False)


def query_parameters(model: type[DetectOptions]) -> list[dict[str, Any]]:
    """The options of a query model as OpenAPI parameters."""
    properties = model.model_json_schema()["properties"]
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema.pop("description"),
            "schema": schema,
        }
        for name, schema in properties.items()
    ]


def problems(*codes: str, dialect: Dialect = PROBLEMS) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for these codes, one for each status, with an example of every code."""
    kinds = [kind for kind in error_classes() if kind.code in codes]
    return {
        status: _problem_response([kind for kind in kinds if kind.status == status], dialect)
        for status in _statuses(kinds)
    }


def protocol(dialect: Dialect, example: object, *codes: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses of a route in another server's protocol: an example, and refusals in its dialect."""
    schema = (
        {"type": "array", "items": {"type": "object"}} if isinstance(example, list) else {"type": "object"}
    )
    content = {"application/json": {"schema": schema, "example": example}}
    return {200: {"description": "As that server answers", "content": content}} | problems(
        *codes, dialect=dialect
    )


def json_body(model: type[BaseModel], example: object, **others: object) -> dict[str, Any]:
    """An OpenAPI request body in JSON, or in one of `others` (media type to schema)."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = schema.pop("$defs", {})
    content = {"application/json": {"schema": _inlined(schema, definitions), "example": example}}
    return {"required": True, "content": content | {name: {"schema": one} for name, one in others.items()}}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """A schema without references, for what is in no table of components."""
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items()}


def _statuses(kinds: list[type[ServiceError]]) -> list[int]:
    return sorted({kind.status for kind in kinds})


def _problem_response(kinds: list[type[ServiceError]], dialect: Dialect) -> dict[str, Any]:
    examples = {
        kind.code: {
            "value": dialect.body(kind(kind.__doc__ or kind.title), "6f1c0c3f4f5e4a0e9c6a2b1d8e7f0a1b")
        }
        for kind in kinds
    }
    ours = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    schema = ours if dialect is PROBLEMS else {"type": "object"}
    return {
        "description": "; ".join(f"`{kind.code}`: {kind.title}" for kind in kinds),
        "content": {dialect.media_type: {"schema": schema, "examples": examples}},
    }


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The OpenAPI document."""
    return JSONResponse(request.app.openapi())


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """The documentation, to read and to try; all of it comes from this server, not from a CDN."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=f"{request.app.title} API",
        swagger_js_url=f"docs/{ASSETS[0]}",
        swagger_css_url=f"docs/{ASSETS[1]}",
        swagger_favicon_url=f"docs/{ASSETS[2]}",
    )
    page.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return page


@router.get("/docs/{name}")
async def docs_asset(name: str) -> FileResponse:
    """A file of Swagger UI."""
    if name not in ASSETS:
        raise NotFound("no such file of the documentation; see /docs")
    return FileResponse(_swagger_ui() / name, headers={"Cache-Control": "max-age=86400"})


@cache
def _swagger_ui() -> Path:
    return Path(str(resources.files("fastapi_offline") / "static"))

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
from app.routes import examples
from app.schemas import DetectOptions, DetectResponse, ImageBody, Problem

FILE = {"type": "string", "format": "binary"}
_FILES = {"type": "array", "items": FILE, "minItems": 1}

EXAMPLE_IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFUlEQVR42mM8EaDBgA0wMeAAg1MCAP8oAVCGkvfKAAAAAElFTkSuQmCC"
)
"""A PNG of 8 x 8 pixels in base64."""

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
        "application/json": {"schema": ImageBody.model_json_schema(), "example": {"image": EXAMPLE_IMAGE}},
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
    "description": "A video (MP4, QuickTime, WebM, Matroska, AVI, MPEG; needs the extra `video`), "
    "an animated GIF, WebP or PNG, a TIFF of several pages, or a single image.",
    "content": {**IMAGE_BODY["content"], "video/*": {"schema": FILE}},
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
            "example": examples.DETECTION,
        },
        "application/geo+json": {"schema": {"type": "object"}, "example": examples.GEOJSON},
        "image/png": {"schema": FILE},
        "image/jpeg": {"schema": FILE},
    }
    | {name: {"schema": {"type": "string"}, "example": text} for name, text in examples.TEXTS.items()},
}

FRAMES: dict[str, Any] = {
    "description": "A line of JSON for each frame and one that says why it was the last, or the frames with "
    "their detections drawn as parts of multipart/x-mixed-replace (`format`, or `Accept`)",
    "content": {
        "application/x-ndjson": {
            "schema": {"type": "string"},
            "example": "\n".join(
                json.dumps(line)
                for line in (
                    {"frame": 0, "seconds": 0.0, **examples.DETECTION},
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

HEADERS = {
    "X-Request-ID": "The id of the request: the client's own, or one made up; the log has it too.",
    "Retry-After": "Seconds after which it is worth asking again.",
    "X-Model": "The model that answered.",
    "X-Model-Version": "A hash of its card and its weights.",
}
_HEADERS = {
    name: {"description": text, "required": name != "Retry-After", "schema": {"type": "string"}}
    for name, text in HEADERS.items()
}

# What app/routes/access.py reads; told here, as FastAPI would solve two more dependencies for each request.
KEYS = {
    "HTTPBearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "One of the keys in RCNN_API_KEYS, if the server has any.",
    },
    "APIKeyHeader": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The same key, for clients without Bearer.",
    },
}

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
    refusals = {
        kind.code: {"value": dialect.body(kind(kind.__doc__ or kind.title), examples.REQUEST_ID)}
        for kind in kinds
    }
    ours = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    schema = ours if dialect is PROBLEMS else {"type": "object"}
    return {
        "description": "; ".join(f"`{kind.code}`: {kind.title}" for kind in kinds),
        "content": {dialect.media_type: {"schema": schema, "examples": refusals}},
    }


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The OpenAPI document."""
    return JSONResponse(_with_keys(_with_headers(_true(request.app.openapi()))))


def _true(document: dict[str, Any]) -> dict[str, Any]:
    """The document without FastAPI's own 422 for parts of a path, which are texts and never wrong in kind."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in json.dumps(operation["responses"].get("422", {})):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    return document


def _with_keys(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the keys that an operation takes, which are those of its 401."""
    document["components"]["securitySchemes"] = KEYS
    for path in document["paths"].values():
        for operation in path.values():
            if "401" in operation["responses"]:
                operation["security"] = [{name: []} for name in KEYS]
    return document


def _with_headers(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the headers of its answers."""
    for path in document["paths"].values():
        for responses in (operation["responses"] for operation in path.values()):
            for status, response in responses.items():
                named = ["X-Request-ID"]
                named += ["Retry-After"] if status in ("429", "503") else []
                named += ["X-Model", "X-Model-Version"] if _of_one_model(status, responses) else []
                response["headers"] = {name: _HEADERS[name] for name in named}
    return document


def _of_one_model(status: str, responses: dict[str, Any]) -> bool:
    """Whether these are detections, which alone can come too late; the frames of a stream name their own."""
    frames = set(FRAMES["content"]) & set(responses[status].get("content", {}))
    return status == "200" and "504" in responses and not frames


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

"""What no signature of a route can say to OpenAPI: bodies, problems, headers of responses."""

import json
from typing import Any

from pydantic import BaseModel

from app.errors import PROBLEMS, Dialect, ServiceError, error_classes
from app.schemas.image_body import ImageBody
from app.schemas.options import DetectOptions, DetectQuery, OptionSet, StreamQuery
from app.schemas.responses import DetectResponse, Problem
from app.transport import openapi_examples

FILE = {"type": "string", "format": "binary"}

EXAMPLE_IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFUlEQVR42mM8EaDBgA0wMeAAg1MCAP8oAVCGkvfKAAAAAElFTkSuQmCC"
)
"""A PNG of 8 x 8 pixels in base64."""


def _part_image(schema: dict[str, Any], options: type[OptionSet]) -> dict[str, Any]:
    """A multipart body with the part `image`, and options as fields beside it."""
    return {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"image": schema, **_properties(options)},
                "required": ["image"],
                "additionalProperties": False,
            }
        }
    }


def _images_json(options: type[OptionSet], *names: str) -> dict[str, Any]:
    """A JSON body with one of these fields of ImageBody, and options beside it."""
    images = _properties(ImageBody)
    schema = {
        "type": "object",
        "properties": {name: images[name] for name in names} | _properties(options),
        "oneOf": [{"required": [name]} for name in names],
        "additionalProperties": False,
    }
    example = {"images": [EXAMPLE_IMAGE]} if names == ("images",) else {"image": EXAMPLE_IMAGE}
    return {"application/json": {"schema": schema, "example": example}}


def _properties(model: type[BaseModel]) -> dict[str, Any]:
    """The fields of a model, with its references resolved."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    properties: dict[str, Any] = _inlined(schema["properties"], schema.pop("$defs", {}))
    return properties


def query_parameters(options: type[OptionSet]) -> list[dict[str, Any]]:
    """The OpenAPI parameters of a route that reads its query by `query.query_options`."""
    return [
        {"name": name, "in": "query", "required": False, "schema": schema}
        | {"description": schema["description"]}
        for name, schema in _properties(options).items()
    ]


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """A schema with its references resolved: a body in `openapi_extra` adds nothing to the components."""
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items()}


IMAGE_BODY: dict[str, Any] = {
    "required": True,
    "description": "The image file: JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF, HEIC (extra `heif`), JPEG XL "
    "(extra `jxl`), or a camera's raw file with a JPEG in it.",
    "content": {
        **_part_image(FILE, DetectQuery),
        "image/*": {"schema": FILE},
        "application/octet-stream": {"schema": FILE},
        **_images_json(DetectQuery, *ImageBody.model_fields),
    },
}
IMAGES_BODY = {
    "required": True,
    "description": "The image files, each as a part `image`, or in JSON.",
    "content": {
        **_part_image({"type": "array", "items": FILE, "minItems": 1}, DetectOptions),
        **_images_json(DetectOptions, "images"),
    },
}
VIDEO_BODY = {
    **IMAGE_BODY,
    "description": "A video (MP4, QuickTime, WebM, Matroska, AVI, MPEG; needs the extra `video`), "
    "an animated GIF, WebP or PNG, a TIFF of several pages, or a single image.",
    "content": {
        **IMAGE_BODY["content"],
        **_part_image(FILE, StreamQuery),
        **_images_json(StreamQuery, "image", "url"),
        "video/*": {"schema": FILE},
    },
}
DETECTIONS = {
    "description": "Detections as JSON, or the image with its detections drawn (`format`, or `Accept`)",
    "content": {
        "application/json": {
            "schema": {
                "anyOf": [
                    {"$ref": f"#/components/schemas/{DetectResponse.__name__}"},
                    {
                        "type": "object",
                        "description": "format=coco; or `results` by the names of several models",
                    },
                    {"type": "array", "description": "format=labelstudio"},
                ]
            },
            "example": openapi_examples.DETECTION,
        },
        "application/geo+json": {"schema": {"type": "object"}, "example": openapi_examples.GEOJSON},
        "image/png": {"schema": FILE},
        "image/jpeg": {"schema": FILE},
    }
    | {
        name: {"schema": {"type": "string"}, "example": text} for name, text in openapi_examples.TEXTS.items()
    },
}

FRAMES: dict[str, Any] = {
    "description": "A line of JSON for each frame and a last one with the reason of the end, or the frames "
    "with their detections drawn, as parts of multipart/x-mixed-replace (`format`, or `Accept`)",
    "content": {
        "application/x-ndjson": {
            "schema": {"type": "string"},
            "example": "\n".join(
                json.dumps(line)
                for line in (
                    {"frame": 0, "seconds": 0.0, **openapi_examples.DETECTION},
                    {"end": "complete", "frames": 1},
                )
            ),
        },
        "multipart/x-mixed-replace": {"schema": FILE},
    },
}

EVERYWHERE = ("unauthorized", "internal")
OF_DETECTION = (
    *("invalid_image", "body_too_large", "image_too_large", "unsupported_media_type", "invalid_parameter"),
    *("overloaded", "loading", "draining", "failing", "deadline_exceeded"),
)
OF_MODEL = ("unknown_model", "conflict", "load_failed")  # of a request that names a model
OF_LOAD = (
    *("forbidden", "unknown_model", "conflict", "load_failed", "loading", "draining", "failing"),
    *EVERYWHERE,
)

_HEADERS = {
    "X-Request-ID": "The id of the request: the client's own, or a generated one; the log has it too.",
    "Retry-After": "Seconds to wait before sending the request again.",
    "X-Model": "The model that answered.",
    "X-Model-Version": "Hash of its card and its weights.",
}


_KEYS = {
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
"""Where a request may have its key; FastAPI's own dependencies for it cost each request time."""


def problems(*codes: str, dialect: Dialect = PROBLEMS) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for these error codes, one for each status, with an example of every code."""
    kinds = [kind for kind in error_classes() if kind.code in codes]
    return {
        status: _problem_response([kind for kind in kinds if kind.status == status], dialect)
        for status in _statuses(kinds)
    }


def protocol(dialect: Dialect, example: object, *codes: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses of a route of another server's API: an example, and errors in its dialect."""
    schema = (
        {"type": "array", "items": {"type": "object"}} if isinstance(example, list) else {"type": "object"}
    )
    content = {"application/json": {"schema": schema, "example": example}}
    return {200: {"description": "As the original server answers", "content": content}} | problems(
        *codes, dialect=dialect
    )


def json_body(model: type[BaseModel], example: object, **others: object) -> dict[str, Any]:
    """An OpenAPI request body in JSON, or in one of `others` (media type to schema)."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = schema.pop("$defs", {})
    content = {"application/json": {"schema": _inlined(schema, definitions), "example": example}}
    return {"required": True, "content": content | {name: {"schema": one} for name, one in others.items()}}


def _statuses(kinds: list[type[ServiceError]]) -> list[int]:
    return sorted({kind.status for kind in kinds})


def _problem_response(kinds: list[type[ServiceError]], dialect: Dialect) -> dict[str, Any]:
    examples = {
        kind.code: {"value": dialect.body(kind(kind.__doc__ or kind.title), openapi_examples.REQUEST_ID)}
        for kind in kinds
    }
    problem = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    schema = problem if dialect is PROBLEMS else {"type": "object"}
    return {
        "description": "; ".join(f"`{kind.code}`: {kind.title}" for kind in kinds),
        "content": {dialect.media_type: {"schema": schema, "examples": examples}},
    }


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's document with the headers of the responses, without its own shape of a 422.

    FastAPI adds that 422 to routes whose parameters are texts of any kind, which are never wrong.
    """
    document["components"]["securitySchemes"] = _KEYS
    for path in document["paths"].values():
        for operation in path.values():
            responses = operation["responses"]
            if "401" in responses:
                operation["security"] = [{name: []} for name in _KEYS]
            if "HTTPValidationError" in json.dumps(responses.get("422", {})):
                del responses["422"]
            for status, response in responses.items():
                names = ["X-Request-ID"]
                names += ["Retry-After"] if status in ("429", "503") else []
                names += ["X-Model", "X-Model-Version"] if _of_one_model(status, responses) else []
                response["headers"] = {name: _header(name) for name in names}
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    return document


def _header(name: str) -> dict[str, Any]:
    return {"description": _HEADERS[name], "required": name != "Retry-After", "schema": {"type": "string"}}


def _of_one_model(status: str, responses: dict[str, Any]) -> bool:
    """Whether these are detections, which have a deadline; the frames of a stream each name their model."""
    frames = set(FRAMES["content"]) & set(responses[status].get("content", {}))
    return status == "200" and "504" in responses and not frames

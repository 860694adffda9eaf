"""What no signature of a route can say to OpenAPI: bodies, problems, headers of responses."""

import json
from typing import Any

from pydantic import BaseModel

from app.errors import PROBLEMS, Dialect, ServiceError, error_classes
from app.schemas.export_documents import CocoDataset, FeatureCollection, LabelStudioTask
from app.schemas.options import OptionSet
from app.schemas.responses import DetectResponse, ModelsResponse, ObjectsResponse, Problem
from app.transport import openapi_examples

FILE = {"type": "string", "format": "binary"}

EXAMPLE_IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFUlEQVR42mM8EaDBgA0wMeAAg1MCAP8oAVCGkvfKAAAAAElFTkSuQmCC"
)
"""A PNG of 8 x 8 pixels in base64."""


def _form(name: str, image: dict[str, Any]) -> dict[str, Any]:
    """A multipart body with the part `image`; the options are documented in the query alone, so once."""
    schema = {"title": name, "type": "object", "properties": {"image": image}, "required": ["image"]}
    return {"multipart/form-data": {"schema": schema}}


def _properties(model: type[BaseModel]) -> dict[str, Any]:
    """The fields of a model with its references resolved, as parameters of a query."""
    schema = model.model_json_schema()
    properties = _inlined(schema["properties"], schema.pop("$defs", {}))
    return {name: _parameter(field) for name, field in properties.items()}


def _parameter(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter, which is never null; its default as text, or clients would send it."""
    left_out = ("anyOf", "default", "title")
    rest = {key: value for key, value in schema.items() if key not in left_out}
    if schema.get("default") not in (None, []):
        rest["description"] += f" The default is {str(schema['default']).lower()}."
    kinds = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    return rest | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {})


def query_parameters(options: type[OptionSet]) -> list[dict[str, Any]]:
    """The OpenAPI parameters of a route that reads its query by `query.query_options`."""
    return [
        {"name": name, "in": "query", "required": False, "schema": schema}
        | {"description": schema["description"]}
        for name, schema in _properties(options).items()
    ]


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """A schema with its references resolved."""
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items()}


def named(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """The schema of a model, which the document names `prefix` and its name; see routes/openapi_document."""
    schema = model.model_json_schema(ref_template=f"#/components/schemas/{prefix}{{model}}")
    definitions = {f"{prefix}{name}": one for name, one in schema.pop("$defs", {}).items()}
    return {**schema, "title": prefix + model.__name__, "$defs": definitions}


# One media type for each operation: code generators take the first or the last of several, and then send
# what the user has not. The texts name the others.
_IMAGES = (
    "JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF, HEIC (extra `heif`), JPEG XL (extra `jxl`), or a camera's raw "
    "file with a JPEG in it"
)
_AS_JSON = '`{"image": "<base64>"}` with the options beside it'
_FIELDS = "The options may also be fields of the form."
IMAGE_BODY: dict[str, Any] = {
    "required": True,
    "description": f"The image file: {_IMAGES}. It may also be the whole body, whatever its Content-Type, or "
    f"JSON: {_AS_JSON}; several images as `images`. {_FIELDS}",
    "content": _form("DetectForm", FILE),
}
RAW_BODY: dict[str, Any] = {
    "required": True,
    "description": f"The image file: {_IMAGES}. It is known by its first bytes.",
    "content": {"application/octet-stream": {"schema": FILE}},
}
IMAGES_BODY = {
    "required": True,
    "description": 'The image files, each as a part `image`; or JSON: `{"images": ["<base64>"]}` with the '
    f"options beside it. {_FIELDS}",
    "content": _form("BatchForm", {"type": "array", "items": FILE, "minItems": 1}),
}
VIDEO_BODY = {
    "required": True,
    "description": "A video (MP4, QuickTime, WebM, Matroska, AVI, MPEG; needs the extra `video`), "
    "an animated GIF, WebP or PNG, a TIFF of several pages, or a single image. It may also be the whole "
    f"body, or JSON: {_AS_JSON}. {_FIELDS}",
    "content": _form("StreamForm", FILE),
}
_DETECTED: list[dict[str, Any]] = [
    *({"$ref": f"#/components/schemas/{model.__name__}"} for model in (DetectResponse, ObjectsResponse)),
    named(ModelsResponse),
    named(CocoDataset),
    {"type": "array", "items": named(LabelStudioTask), "description": "format=labelstudio"},
]
DETECTIONS = {
    "description": "Detections as JSON, or the image with its detections drawn (`format`, or `Accept`)",
    "content": {
        "application/json": {
            "schema": {"anyOf": _DETECTED},
            "examples": {
                "json": {"value": openapi_examples.DETECTION},
                "objects": {"value": openapi_examples.OBJECTS},
                "coco": {"value": openapi_examples.COCO},
                "labelstudio": {"value": openapi_examples.LABEL_STUDIO},
            },
        },
        "application/geo+json": {
            "schema": named(FeatureCollection),
            "example": openapi_examples.GEOJSON,
        },
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


def json_body(model: type[BaseModel], prefix: str, example: object, others: str = "") -> dict[str, Any]:
    """An OpenAPI request body in JSON; `others`: what else the route takes."""
    content = {"application/json": {"schema": named(model, prefix), "example": example}}
    return {"required": True, "content": content} | ({"description": others} if others else {})


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

"""The OpenAPI document as code generators need it: FastAPI's, with named schemas, keys and headers."""

import json
from typing import Any

from app.transport.openapi import FRAMES
from app.transport.openapi_examples import NULL

SERVERS = [{"url": ".", "description": "This server; the address is relative to the one of this document."}]
"""So that it is right behind a proxy on a sub-path, too."""

_HEADERS = {
    "X-Request-ID": "The id of the request: the client's own, or a generated one; the log has it too.",
    "Retry-After": "Seconds to wait before sending the request again.",
    "X-Model": "The model that answered.",
    "X-Model-Version": "Hash of its card and its weights.",
}
_QUERY_KEY = "api_key"
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
    "APIKeyQuery": {
        "type": "apiKey",
        "in": "query",
        "name": _QUERY_KEY,
        "description": "The same key, for clients of Roboflow.",
    },
}
"""Where a request may have its key; FastAPI's own dependencies for it cost each request time."""


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's document with servers, keys, headers of the responses, and a name for each schema.

    Its own shape of a 422 is left out, which it adds to routes whose parameters are never wrong.
    """
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document["servers"] = SERVERS
    document["components"]["securitySchemes"] = _KEYS
    for path in document["paths"].values():
        for operation in path.values():
            _complete(operation, schemas)
    completed: dict[str, Any] = _with_nulls(document)
    return completed


def _complete(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    responses = operation["responses"]
    if "401" in responses:
        operation["security"] = _alternatives(operation)
    if "HTTPValidationError" in json.dumps(responses.get("422", {})):
        del responses["422"]
    for status, response in responses.items():
        names = ["X-Request-ID"]
        names += ["Retry-After"] if status in ("429", "503") else []
        names += ["X-Model", "X-Model-Version"] if _of_one_model(status, responses) else []
        response["headers"] = {name: _header(name) for name in names}
    for holder in (operation.get("requestBody", {}), *responses.values()):
        for content in holder.get("content", {}).values():
            if "schema" in content:
                content["schema"] = _named(content["schema"], schemas)


def _alternatives(operation: dict[str, Any]) -> list[dict[str, list[str]]]:
    """Where the key may be, or none: a server may have none, but for what its administrator alone may do."""
    parameters = operation.get("parameters", [])
    in_query = [one for one in parameters if (one["in"], one["name"]) == ("query", _QUERY_KEY)]
    for one in in_query:
        parameters.remove(one)
    places: list[dict[str, list[str]]] = [{name: []} for name in _KEYS if in_query or name != "APIKeyQuery"]
    return places if "403" in operation["responses"] else [*places, {}]


def _named(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """A reference to the schema and its definitions, which are among `schemas` then."""
    if "anyOf" in schema:
        return schema | {"anyOf": [_named(one, schemas) for one in schema["anyOf"]]}
    if schema.get("type") == "array":
        return schema | {"items": _named(schema["items"], schemas)}
    if not schema.get("title", "").isidentifier():  # of FastAPI, or none
        return schema
    schemas.update(schema.pop("$defs", {}))
    schemas[schema["title"]] = schema
    return {"$ref": f"#/components/schemas/{schema['title']}"}


def _with_nulls(value: Any) -> Any:
    """The value with null where an example has it: FastAPI leaves it out of its document."""
    if isinstance(value, dict):
        return {key: _with_nulls(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_nulls(one) for one in value]
    return None if value == NULL else value


def _header(name: str) -> dict[str, Any]:
    return {"description": _HEADERS[name], "required": name != "Retry-After", "schema": {"type": "string"}}


def _of_one_model(status: str, responses: dict[str, Any]) -> bool:
    """Whether these are detections, which have a deadline; the frames of a stream each name their model."""
    frames = set(FRAMES["content"]) & set(responses[status].get("content", {}))
    return status == "200" and "504" in responses and not frames

"""GET /openapi.json and GET /docs: the OpenAPI document and its page, without a CDN."""

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

from app.errors import NotFound
from app.transport.openapi import FRAMES, HEADERS, KEYS

ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")


# Swagger UI starts from a script in its page and styles as it goes; nothing may come from elsewhere.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; frame-ancestors 'none'"
)


_HEADERS = {
    name: {"description": text, "required": name != "Retry-After", "schema": {"type": "string"}}
    for name, text in HEADERS.items()
}


router = APIRouter(include_in_schema=False)


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

"""GET /openapi.json and GET /docs: the OpenAPI document and its page, without a CDN."""

from functools import cache
from http import HTTPStatus
from importlib import resources
from pathlib import Path

from fastapi import Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse

from app.errors import NotFound
from app.routes.openapi_document import complete
from app.transport.compression import compressed
from app.transport.router import Router

ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")

# Swagger UI starts from a script in its page and sets styles as it runs; nothing may come from elsewhere.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; frame-ancestors 'none'"
)

router = Router("documentation", access=None)


@router.get("/openapi.json", include_in_schema=False)
def openapi(request: Request) -> Response:
    """The OpenAPI document; built once, on a thread, as this takes some 0.1 s."""
    state = request.app.state
    if not hasattr(state, "openapi_document"):
        state.openapi_document = JSONResponse(complete(request.app.openapi())).body
    body, headers = compressed(state.openapi_document, request.headers.get("accept-encoding"))
    return Response(body, media_type="application/json", headers=headers)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """The API documentation, to read and to try; all of it comes from this server."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=f"{request.app.title} API",
        swagger_js_url=f"docs/{ASSETS[0]}",
        swagger_css_url=f"docs/{ASSETS[1]}",
        swagger_favicon_url=f"docs/{ASSETS[2]}",
    )
    page.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return page


@router.get("/docs/", include_in_schema=False)
async def docs_with_slash() -> RedirectResponse:
    """To the page, whose addresses are relative."""
    return RedirectResponse("../docs", HTTPStatus.PERMANENT_REDIRECT)


@router.get("/docs/{name}", include_in_schema=False)
async def docs_asset(name: str) -> FileResponse:
    """A file of Swagger UI."""
    if name not in ASSETS:
        raise NotFound("no such file of the documentation; see /docs")
    return FileResponse(_swagger_ui() / name, headers={"Cache-Control": "max-age=86400"})


@cache
def _swagger_ui() -> Path:
    return Path(str(resources.files("fastapi_offline") / "static"))

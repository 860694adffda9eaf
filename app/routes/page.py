"""GET /: the page, its files and the sample images. Serves only files that are in those folders.

GET /models, GET /metrics and GET /captures are pages too, for a browser.
"""

from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import Scope

from app.errors import NotFound
from app.schemas.status import Sample, SampleList
from app.transport.context import service_of
from app.transport.openapi import problems
from app.transport.openapi_examples import SAMPLES as SAMPLES_EXAMPLE
from app.transport.openapi_examples import shown
from app.transport.query import ModelQuery
from app.transport.responses import preferred
from app.transport.router import Router

APP = Path(__file__).resolve().parent.parent
WEB = APP / "web"
SAMPLES = APP / "samples"
SCENES_OF = "shapes"  # the model that they are of
KINDS = {"data": "application/json", "page": "text/html"}  # text/plain or */* weigh as data: the first wins
PICTURES = (".png", ".jpg", ".jpeg", ".webp")

# Everything the page uses comes from this server; its images and canvases are blobs of the user's own files.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept",  # some addresses are data for other clients
    "Cache-Control": "no-cache",  # revalidated each time: cheap with the ETag, and an update shows at once
}

ALIVE = {"status": "alive"}


class BrowserRoute(APIRoute):
    """A route for browsers: a request whose header Accept prefers no HTML goes on to the next route."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As any route, for a request that prefers HTML."""
        match, child = super().matches(scope)
        if match is not Match.FULL or preferred(Headers(scope=scope).get("accept"), KINDS) != "page":
            return Match.NONE, {}
        return match, child


router = Router("page", "The web page and its sample images.", access=None)
browser_router = Router("page", access=None)  # before the routes of the data
browser_router.route_class = BrowserRoute


@router.get(
    "/",
    summary="Web page",
    response_class=HTMLResponse,
    responses={200: shown(ALIVE), 304: {"description": "Not modified (If-None-Match)"}},
)
async def get_page(request: Request) -> Response:
    """The web page for browsers; `{"status": "alive"}`, as of KServe V1, for clients that prefer no HTML."""
    if preferred(request.headers.get("accept"), KINDS) != "page":
        return JSONResponse(ALIVE, headers={"Vary": "Accept"})
    return _file(request, WEB, "index.html")


@router.get("/web/{name}", include_in_schema=False)
async def get_web_file(request: Request, name: str) -> Response:
    """A script or a style sheet of the page."""
    return _file(request, WEB, name)


@router.get(
    "/samples",
    summary="List the sample images of a model",
    responses={200: shown(SAMPLES_EXAMPLE), **problems("unknown_model")},
)
async def list_samples(request: Request, model: ModelQuery = None) -> SampleList:
    """The sample images of a loaded model, with their ground truth if available; none if it has none."""
    folder, query = _folder(request, model)
    names = {path.name for path in _files(folder)} if folder else set()
    return SampleList(samples=[_sample(name, names, query) for name in sorted(names) if _is_picture(name)])


@router.get("/samples/{name}", include_in_schema=False)
async def get_sample(request: Request, name: str, model: ModelQuery = None) -> Response:
    """A sample image or its ground truth; without `model`, of the scenes of `shapes`."""
    folder = SAMPLES if model is None else _folder(request, model)[0]
    if folder is None:
        raise NotFound(f"{model} has no samples")
    return _file(request, folder, name)


@browser_router.get("/models", include_in_schema=False)
async def get_models_page(request: Request) -> Response:
    """GET /models in a browser."""
    return _file(request, WEB, "models.html")


@browser_router.get("/metrics", include_in_schema=False)
async def get_metrics_page(request: Request) -> Response:
    """GET /metrics in a browser."""
    return _file(request, WEB, "metrics.html")


@browser_router.get("/captures", include_in_schema=False)
async def get_captures_page(request: Request) -> Response:
    """GET /captures in a browser; the page asks for the key that its data need."""
    return _file(request, WEB, "captures.html")


def _folder(request: Request, model: str | None) -> tuple[Path | None, str]:
    """The folder with the samples of a model (None: the default one), and the query of their addresses.

    A model's own lie beside its card, in NAME.samples. Raises UnknownModel.
    """
    models = service_of(request).models
    found = models.serving if model is None else models.get(model)
    if found is None:
        return None, ""
    own = found.card.path.with_suffix(".samples") if found.card.path else None
    if own is not None and own.is_dir():
        return own, f"?model={quote(found.name, safe='')}"
    return (SAMPLES if found.name == SCENES_OF else None), ""


def _is_picture(name: str) -> bool:
    return Path(name).suffix in PICTURES


def _sample(name: str, names: Collection[str], query: str) -> Sample:
    truth = Path(name).with_suffix(".json").name
    path = f"/samples/{quote(name)}{query}"
    return Sample(name=name, url=path, truth=f"/samples/{quote(truth)}{query}" if truth in names else None)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def _file(request: Request, folder: Path, name: str) -> Response:
    """A file of the folder: the name is compared with the names there, never joined to a path."""
    path = next((path for path in _files(folder) if path.name == name), None)
    if path is None:
        raise NotFound(f"no file of this name under /{folder.name}")
    response = FileResponse(path, headers=SECURITY_HEADERS, stat_result=path.stat())
    if request.headers.get("if-none-match") == response.headers["etag"]:
        return Response(status_code=304, headers=SECURITY_HEADERS | {"ETag": response.headers["etag"]})
    return response

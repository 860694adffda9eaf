"""GET /: the page, its files and the sample images. Serves only files that are in those folders."""

from pathlib import Path

from fastapi import Request, Response
from fastapi.responses import FileResponse, HTMLResponse

from app.errors import NotFound
from app.schemas.status import Sample, SampleList
from app.transport.openapi_examples import SAMPLES as SAMPLES_EXAMPLE
from app.transport.openapi_examples import shown
from app.transport.router import Router

APP = Path(__file__).resolve().parent.parent
WEB = APP / "web"
SAMPLES = APP / "samples"
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
    "Cache-Control": "no-cache",  # revalidated each time: cheap with the ETag, and an update shows at once
}

router = Router("page", "The web page and its sample images.", access=None)


@router.get(
    "/",
    summary="Web page",
    response_class=HTMLResponse,
    responses={304: {"description": "Not modified (If-None-Match)"}},
)
async def get_page(request: Request) -> Response:
    """The web page for trying the service."""
    return _file(request, WEB, "index.html")


@router.get("/web/{name}", include_in_schema=False)
async def get_web_file(request: Request, name: str) -> Response:
    """A script or a style sheet of the page."""
    return _file(request, WEB, name)


@router.get("/samples", summary="List the sample images", responses={200: shown(SAMPLES_EXAMPLE)})
async def list_samples() -> SampleList:
    """The sample images of this server, with their ground truth if available."""
    names = [path.name for path in _files(SAMPLES) if path.suffix in PICTURES]
    return SampleList(samples=[_sample(name) for name in sorted(names)])


@router.get("/samples/{name}", include_in_schema=False)
async def get_sample(request: Request, name: str) -> Response:
    """A sample image or its ground truth."""
    return _file(request, SAMPLES, name)


def _sample(name: str) -> Sample:
    truth = Path(name).with_suffix(".json").name
    exists = any(path.name == truth for path in _files(SAMPLES))
    return Sample(name=name, url=f"/samples/{name}", truth=f"/samples/{truth}" if exists else None)


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

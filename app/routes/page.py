"""GET / and what it needs: the page, its files, the sample images. Only names in those folders are served."""

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse

from app.errors import NotFound
from app.schemas.status import Sample, SampleList
from app.transport.openapi_examples import SAMPLES as SAMPLES_EXAMPLE
from app.transport.openapi_examples import shown

APP = Path(__file__).resolve().parent.parent
WEB = APP / "web"
SAMPLES = (
    APP.parent / "samples"
)  # beside the package in a checkout and in the container image; not in a wheel
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
    "Cache-Control": "no-cache",  # asked again each time: cheap by its ETag, and an update shows at once
}

router = APIRouter(tags=["page"])


@router.get(
    "/",
    summary="The page",
    response_class=HTMLResponse,
    responses={304: {"description": "As the client has it (If-None-Match)"}},
)
async def page(request: Request) -> Response:
    """The page on which a person tries the service."""
    return _file(request, WEB, "index.html")


@router.get("/web/{name}", include_in_schema=False)
async def web(request: Request, name: str) -> Response:
    """A script or a style sheet of the page."""
    return _file(request, WEB, name)


@router.get("/samples", summary="Sample images", responses={200: shown(SAMPLES_EXAMPLE)})
async def samples() -> SampleList:
    """The sample images of this server, each with its ground truth where there is one."""
    found = [path.name for path in _files(SAMPLES) if path.suffix in PICTURES]
    return SampleList(samples=[_sample(name) for name in sorted(found)])


@router.get("/samples/{name}", include_in_schema=False)
async def sample(request: Request, name: str) -> Response:
    """A sample image or its ground truth."""
    return _file(request, SAMPLES, name)


def _sample(name: str) -> Sample:
    truth = Path(name).with_suffix(".json").name
    found = any(path.name == truth for path in _files(SAMPLES))
    return Sample(name=name, url=f"/samples/{name}", truth=f"/samples/{truth}" if found else None)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def _file(request: Request, folder: Path, name: str) -> Response:
    """A file of the folder itself: a name is compared with what is there, never joined to a path."""
    path = next((path for path in _files(folder) if path.name == name), None)
    if path is None:
        raise NotFound(f"no file of this name under /{folder.name}")
    response = FileResponse(path, headers=SECURITY_HEADERS, stat_result=path.stat())
    if request.headers.get("if-none-match") == response.headers["etag"]:
        return Response(status_code=304, headers=SECURITY_HEADERS | {"ETag": response.headers["etag"]})
    return response

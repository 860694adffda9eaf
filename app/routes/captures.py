"""GET /captures: the images that were kept for labelling; each can be looked at and erased."""

import mimetypes
from typing import Annotated

from fastapi import Query, Request, Response
from fastapi.responses import FileResponse

from app.captures.files import Capture
from app.captures.recorder import CaptureRecorder
from app.captures.store import CaptureStore
from app.errors import NotFound
from app.schemas.captures import CaptureEntry, CaptureList
from app.transport.access import require_admin
from app.transport.openapi import EVERYWHERE, problems
from app.transport.openapi_examples import CAPTURE, CAPTURES, shown
from app.transport.router import Router

MAX_LISTED = 1000

router = Router("captures", "Images that were kept for labelling.", access=require_admin)
OF_CAPTURE = problems("not_found", "forbidden", *EVERYWHERE)

Limit = Annotated[int, Query(ge=1, le=MAX_LISTED, description="Maximum number of captures in the list.")]
Before = Annotated[
    str | None, Query(max_length=60, description="The id of a capture: only older ones are listed.")
]


@router.get("/captures", summary="List the captures", responses={200: shown(CAPTURES), **OF_CAPTURE})
def list_captures(request: Request, limit: Limit = 100, before: Before = None) -> CaptureList:
    """The newest captures first, with the bounds of their folder."""
    recorder = _recorder(request)
    entries = [_entry(capture) for capture in recorder.store.newest(limit, before)]
    return CaptureList.model_validate({**recorder.bounds(), "captures": entries})


@router.delete("/captures", summary="Erase all captures", status_code=204, responses=OF_CAPTURE)
def delete_captures(request: Request) -> None:
    """Delete all images and their detections; images that are detected in later are kept again."""
    _recorder(request).clear()


@router.get("/captures/{name}", summary="Read a capture", responses={200: shown(CAPTURE), **OF_CAPTURE})
def get_capture(request: Request, name: str) -> CaptureEntry:
    """One capture with its detections, as a COCO dataset of one image."""
    return _entry(_found(_recorder(request).store, name), with_coco=True)


@router.get(
    "/captures/{name}/image",
    summary="Read the image of a capture",
    response_class=Response,
    responses=OF_CAPTURE,
)
def get_capture_image(request: Request, name: str) -> FileResponse:
    """The image file as it was sent."""
    path = _recorder(request).store.image_path(name)
    if path is None or not path.is_file():
        raise _unknown(name)
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return FileResponse(path, media_type=media_type, headers={"Cache-Control": "private, no-store"})


@router.delete("/captures/{name}", summary="Erase a capture", status_code=204, responses=OF_CAPTURE)
def delete_capture(request: Request, name: str) -> None:
    """Delete the image and its detections."""
    if not _recorder(request).store.remove(name):
        raise _unknown(name)


def _recorder(request: Request) -> CaptureRecorder:
    recorder: CaptureRecorder | None = request.app.state.captures
    if recorder is None:
        raise NotFound("no image is kept; start the server with RCNN_CAPTURE_DIR to keep some")
    return recorder


def _found(store: CaptureStore, name: str) -> Capture:
    if (capture := store.find(name)) is None:
        raise _unknown(name)
    return capture


def _unknown(name: str) -> NotFound:
    return NotFound(f"no capture is called {name[:60]!r}; GET /captures lists them all")


def _entry(capture: Capture, *, with_coco: bool = False) -> CaptureEntry:
    return CaptureEntry(
        id=capture.id,
        time=capture.time,
        model=capture.model,
        model_version=capture.model_version,
        reason=capture.reason,
        request_id=capture.request_id,
        file=capture.file,
        detections=capture.detections,
        classes=capture.classes,
        coco=capture.coco if with_coco else None,
    )

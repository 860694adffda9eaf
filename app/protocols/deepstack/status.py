"""CodeProject.AI's status: ping, version, updates, and its list of modules, of which this server is one."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import Request

from app import version
from app.protocols.deepstack.detection import DIALECT, TAG
from app.serving.service import DetectionService
from app.transport.context import service_of
from app.transport.openapi import protocol
from app.transport.router import Router

# A module of CodeProject.AI is a program that the server runs; clients know those for objects by the queue.
MODULE = {"moduleId": "ObjectDetectionRCNN", "name": "Object Detection (rcnn-serve)"}
QUEUE = "objectdetection_queue"
STATES = {
    "ok": "Started",
    "degraded": "Started",
    "loading": "Starting",
    "draining": "Stopping",
    "failing": "FailedStart",
}

PING_EXAMPLE = {"success": True, "message": "0.1.0", "code": 200}
VERSION_EXAMPLE = PING_EXAMPLE | {"version": {"major": 0, "minor": 1, "patch": 0}}
UPDATE_EXAMPLE = {"success": True, "message": "…", "version": None, "updateAvailable": False, "code": 200}
STATUS_EXAMPLE = {
    "success": True,
    "statuses": [MODULE | {"queue": QUEUE, "version": "0.1.0", "status": "Started"}],
    "code": 200,
}
MODULES_EXAMPLE = {
    "success": True,
    "modules": [MODULE | {"version": "0.1.0", "status": "Installed"}],
    "code": 200,
}

router = Router(TAG, dialect=DIALECT, access=None, operations="deepstack_")


def _both(path: str, **options: Any) -> Callable[[Any], Any]:
    """A route below /v1/status, and below /v1/server/status as version 2.4 of CodeProject.AI names it."""

    def register(endpoint: Any) -> Any:
        router.get(f"/v1/server/status{path}", include_in_schema=False)(endpoint)
        return router.get(f"/v1/status{path}", **options)(endpoint)

    return register


@_both("/ping", summary="Liveness (CodeProject.AI)", responses=protocol(DIALECT, PING_EXAMPLE))
async def ping() -> dict[str, Any]:
    """Always a success, as of CodeProject.AI; see /health/ready for whether the model is loaded."""
    return {"success": True, "message": version(), "code": 200}


@_both("/version", summary="Version (CodeProject.AI)", responses=protocol(DIALECT, VERSION_EXAMPLE))
async def get_version() -> dict[str, Any]:
    """The version of this server, as a text and by its parts."""
    parts = zip(("major", "minor", "patch"), version().split("."), strict=False)
    numbers = {name: int(text) for name, text in parts if text.isdecimal()}
    return {"success": True, "message": version(), "version": numbers, "code": 200}


@_both(
    "/updateavailable",
    summary="Available update (CodeProject.AI)",
    responses=protocol(DIALECT, UPDATE_EXAMPLE),
)
async def check_update() -> dict[str, Any]:
    """Always none: this server does not look for updates."""
    message = f"rcnn-serve {version()}; it does not look for updates"
    return {"success": True, "message": message, "version": None, "updateAvailable": False, "code": 200}


@_both("/analysis/list", include_in_schema=False)  # its name until version 2.0
@_both("/modules/list", include_in_schema=False)
@router.get(
    "/v1/module/list/status",
    summary="State of the modules (CodeProject.AI)",
    responses=protocol(DIALECT, STATUS_EXAMPLE),
)
async def list_states(request: Request) -> dict[str, Any]:
    """One module, this server: Started when it is ready."""
    service = service_of(request)
    started = datetime.now(UTC) - timedelta(seconds=service.uptime_seconds)
    about = {
        "queue": QUEUE,
        "version": version(),
        "started": started.isoformat(timespec="seconds"),
        "lastSeen": datetime.now(UTC).isoformat(timespec="seconds"),
        "status": STATES[service.status],
        "statusData": {"inferenceDevice": _device(service)},
    }
    return {"success": True, "statuses": [MODULE | about], "code": 200}


@router.get("/v1/module/list/installed", include_in_schema=False)
@router.get("/v1/module/list/running", include_in_schema=False)
@router.get(
    "/v1/module/list",
    summary="List the modules (CodeProject.AI)",
    responses=protocol(DIALECT, MODULES_EXAMPLE),
)
async def list_modules() -> dict[str, Any]:
    """One module, this server; none can be installed or removed."""
    about = {
        "version": version(),
        "currentlyInstalled": version(),
        "status": "Installed",
        "isDownloadable": False,
        "updateAvailable": False,
    }
    return {"success": True, "modules": [MODULE | about], "code": 200}


def _device(service: DetectionService) -> str:
    """GPU or CPU, by which clients show it; CPU while the model loads."""
    model = service.models.serving
    return "GPU" if model is not None and model.detector.device.startswith("cuda") else "CPU"

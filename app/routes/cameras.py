"""POST /streams: cameras that the server reads by itself; for administrators alone."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from fastapi import Depends, Request, Response, WebSocket
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect, WebSocketState

from app.errors import Forbidden, InvalidParameter
from app.schemas.cameras import CameraEntry, CameraList, CameraRequest
from app.transport.access import SUBPROTOCOL, check_origin, require_admin, require_socket_admin
from app.transport.body import read_within
from app.transport.context import service_of
from app.transport.disconnect import cancel_on_disconnect
from app.transport.json_body import parse_object
from app.transport.openapi import EVERYWHERE, OF_MODEL, json_body, problems
from app.transport.openapi_examples import CAMERA, CAMERA_LINES, CAMERA_REQUEST, shown
from app.transport.query import read_options
from app.transport.router import Router

if TYPE_CHECKING:
    from app.cameras.registry import Cameras

router = Router("streams", "Cameras that the server reads by itself.", access=require_admin)
sockets = Router("streams", access=None)

NDJSON = "application/x-ndjson"
NORMAL, RESTARTS = 1000, 1012  # close codes; the second asks the client to connect again
SECONDS = 30.0  # for a body
USAGE = '{"name": "gate", "source": "rtsp://HOST/PATH"}'
OF_STREAM = problems("not_found", "forbidden", *EVERYWHERE)
LINES: dict[str, Any] = {
    "description": "A line of JSON for the state, and one for each detected frame, the newest first",
    "content": {
        NDJSON: {
            "schema": {"type": "string"},
            "example": "\n".join(json.dumps(line) for line in CAMERA_LINES),
        }
    },
}


@router.post(
    "/streams",
    summary="Start a stream",
    status_code=201,
    responses={
        201: shown(CAMERA),
        **problems("forbidden", "invalid_parameter", "overloaded", "loading", "draining", "failing"),
        **problems(*OF_MODEL, *EVERYWHERE),
    },
    openapi_extra={"requestBody": json_body(CameraRequest, "", CAMERA_REQUEST)},
)
async def start_stream(request: Request, response: Response) -> CameraEntry:
    """Read a camera, detect in its newest frame, again and again; it is opened again when it is cut.

    403 for an address that is not in RCNN_STREAM_ADDRESSES, 409 for a name that is taken, 429 where
    RCNN_MAX_STREAMS are open. Streams end with the process.
    """
    values = parse_object(await read_within(SECONDS, request.body()), USAGE)
    if missing := [name for name in ("name", "source") if values.get(name) is None]:
        raise InvalidParameter(f"{missing[0]} is missing; send {USAGE}")
    camera = await _cameras(request).add(read_options(values, CameraRequest))
    response.headers["Location"] = f"streams/{camera.request.name}"  # relative to the address of the request
    return camera.entry()


@router.get(
    "/streams", summary="List the streams", responses={200: shown({"streams": [CAMERA]}), **OF_STREAM}
)
async def list_streams(request: Request) -> CameraList:
    """All streams with their states, the oldest first."""
    return CameraList(streams=[camera.entry() for camera in _cameras(request).cameras.values()])


@router.get("/streams/{name}", summary="Read a stream", responses={200: shown(CAMERA), **OF_STREAM})
async def get_stream(request: Request, name: str) -> CameraEntry:
    """One stream with its state."""
    return _cameras(request).find(name).entry()


@router.delete("/streams/{name}", summary="End a stream", status_code=204, responses=OF_STREAM)
async def delete_stream(request: Request, name: str) -> None:
    """End the stream; its clients get a last line."""
    await _cameras(request).remove(name)


@router.get(
    "/streams/{name}/detections",
    summary="Watch a stream",
    response_class=Response,
    responses={200: LINES, **OF_STREAM, **problems("overloaded")},
)
async def watch_stream(request: Request, name: str) -> Response:
    """The results as lines of JSON, as long as the stream runs; also a web socket at the same path.

    A client that reads slowly gets the newest line. The first line is the state, as is one when it changes,
    and one every 15 s of silence.
    """
    camera = _cameras(request).find(name)
    if request.method == "HEAD":
        return Response(media_type=NDJSON)
    with ExitStack() as stack:
        watcher = stack.enter_context(camera.watch())
        response = _LinesResponse(request, watcher.lines(camera.state_line), stack.pop_all())
    return response  # noqa: RET504  # inside the block, mypy assumes that an ExitStack may swallow errors


@sockets.websocket(
    "/streams/{name}/detections", dependencies=[Depends(check_origin), Depends(require_socket_admin)]
)
async def watch_stream_socket(socket: WebSocket, name: str) -> None:
    """As GET: each line is a message. What the client sends is ignored."""
    camera = _cameras(socket).find(name)
    with camera.watch() as watcher:
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        await _send_until_left(socket, watcher.lines(camera.state_line))
    if socket.client_state is WebSocketState.CONNECTED:
        stopping = service_of(socket).state == "draining"
        with suppress(WebSocketDisconnect, RuntimeError):  # the client disconnects at this moment
            await socket.close(RESTARTS if stopping else NORMAL)


async def _send_until_left(socket: WebSocket, lines: AsyncGenerator[bytes, None]) -> None:
    tasks = [asyncio.create_task(_send_lines(socket, lines)), asyncio.create_task(_left(socket))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await lines.aclose()


async def _send_lines(socket: WebSocket, lines: AsyncGenerator[bytes, None]) -> None:
    """Send until the last line, or until the client does not take one in time."""
    seconds = service_of(socket).settings.timeout_ms / 1000
    async for line in lines:
        try:
            async with asyncio.timeout(seconds):
                await socket.send_text(line.decode())
        except (TimeoutError, WebSocketDisconnect):
            return


async def _left(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


class _LinesResponse(Response):
    """A response that goes on until the stream is over, or its client has left or takes nothing."""

    def __init__(self, request: Request, lines: AsyncGenerator[bytes, None], held: ExitStack) -> None:
        self.status_code, self.background = 200, None
        self.media_type = NDJSON
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._request, self._lines, self._held = request, lines, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send line after line."""
        seconds = service_of(self._request).settings.timeout_ms / 1000
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while (line := await cancel_on_disconnect(self._request, anext(self._lines, None))) is not None:
                async with asyncio.timeout(seconds):
                    await send({"type": "http.response.body", "body": line + b"\n", "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError as error:
            raise ClientDisconnect from error  # it holds a connection and takes nothing
        finally:
            self._held.close()
            await self._lines.aclose()


def _cameras(request: HTTPConnection) -> "Cameras":
    cameras: Cameras | None = request.app.state.cameras
    if cameras is None:
        raise Forbidden(
            "streams are off; to allow them, start the server with RCNN_STREAM_ADDRESSES, which says where "
            "cameras may be"
        )
    return cameras

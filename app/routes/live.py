"""WS /detect/live: frames in as binary messages, detections out as JSON, the newest frame first.

A frame that waits while the device is busy gives way to a newer one and is counted as dropped, so an answer
is never older than the frame before it in the device and itself. A text message is a JSON object of options
and changes those that it names; null brings the default back. Each frame is a request of its own to the
service: its door, its deadline, its errors. A frame that fails is answered with its problem, and the next
one is taken.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, WebSocket
from pydantic_core import from_json, to_json
from starlette.websockets import WebSocketDisconnect, WebSocketState

from app.errors import BodyTooLarge, Draining, InvalidParameter, ServiceError, problem
from app.schemas.options import DetectOptions
from app.serving.request import Outcome, params_of
from app.serving.service import DetectionService
from app.serving.streams import FATAL, LatestFrame, outcome_of
from app.telemetry.logs import request_id
from app.transport.access import SUBPROTOCOL, check_origin, require_socket_key
from app.transport.context import service_of, stream_slots_of
from app.transport.query import read_options, read_query
from app.transport.responses import to_wire

router = APIRouter()
ROUTE = "/detect/live"
IDLE_SECONDS = 60.0  # without a message; a page out of sight sends none, and opens the socket anew
_EXAMPLE = 'send such as {"score_threshold": 0.5}'
TEXT_BYTES = 16 * 1024  # of a message with options
NORMAL, RESTARTS, FAILED = 1000, 1012, 1011
"""Close codes of RFC 6455 and its registry; 1012 asks the client to come again."""


@router.websocket(ROUTE)
async def live(socket: WebSocket) -> None:
    """Refused before it is open with the problem as the answer to its handshake; then until either closes."""
    service = service_of(socket)
    check_origin(socket)
    require_socket_key(socket)
    if service.state != "ok":
        service.check_capacity()
    query = read_query(socket, DetectOptions)
    service.plan(params_of(query), time.monotonic())  # its options hold, or it is not opened
    with stream_slots_of(socket).hold(ROUTE):
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        code, reason = await _Session(socket, service, query).run()
        if socket.client_state is WebSocketState.CONNECTED:
            with suppress(WebSocketDisconnect, RuntimeError):  # it goes at this moment
                await socket.close(code, reason)


@dataclass(frozen=True, eq=False)
class _Sent:
    """A frame as it came: its number in the order received, its file, when."""

    index: int
    data: bytes
    arrived: float


class _Session:
    """One open socket: a task that receives and never waits for the device, and one that serves."""

    def __init__(self, socket: WebSocket, service: DetectionService, query: DetectOptions) -> None:
        self._socket = socket
        self._service = service
        self._query = query
        self._frames: LatestFrame[_Sent] = LatestFrame()
        self._received = 0
        self._counter = service.metrics.stream_frames

    async def run(self) -> tuple[int, str]:
        """Until the client goes, rests or takes no answers, or the service stops; how to close then."""
        tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._serve())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self) -> tuple[int, str]:
        while True:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    message = await self._socket.receive()
            except TimeoutError:
                return NORMAL, f"no frame for {IDLE_SECONDS:.0f} s"
            if message["type"] == "websocket.disconnect":
                return NORMAL, ""
            if (data := message.get("bytes")) is not None:
                self._take(data)
            elif not await self._change(message["text"]):
                return FAILED, "answers are not taken"

    def _take(self, data: bytes) -> None:
        if self._frames.put(_Sent(self._received, data, time.monotonic())):
            self._counter.labels(route=ROUTE, outcome="dropped").inc()
        self._received += 1

    async def _change(self, text: str) -> bool:
        """Change options and tell what they are now, or what is wrong with the change."""
        try:
            self._query = self._changed(text)
        except ServiceError as error:
            return await self._send({"error": self._told(error)})
        return await self._send({"options": self._query})

    def _changed(self, text: str) -> DetectOptions:
        if len(text) > TEXT_BYTES:
            raise InvalidParameter(f"options are longer than {TEXT_BYTES} characters; name only what changes")
        try:
            change = from_json(text)
        except ValueError as error:
            raise InvalidParameter(f"options are no JSON ({error}); {_EXAMPLE}") from error
        if not isinstance(change, dict):
            raise InvalidParameter(f"options are no JSON object; {_EXAMPLE}")
        values = self._query.model_dump(exclude_unset=True) | change
        query = read_options(
            {name: value for name, value in values.items() if value is not None}, DetectOptions
        )
        self._service.plan(params_of(query), time.monotonic())
        return query

    async def _serve(self) -> tuple[int, str]:
        """A frame is taken when the door is open and the one before is answered: the newest that there is."""
        while True:
            await self._frames.wait()
            refusal = await outcome_of(
                self._service.wait_for_capacity(time.monotonic(), self._query.priority)
            )
            frame = self._frames.take()
            outcome = await outcome_of(self._detect(frame)) if refusal is None else refusal
            taken = await self._send(self._answer(frame, outcome))
            if isinstance(outcome, FATAL):
                return (RESTARTS if isinstance(outcome, Draining) else FAILED), outcome.code
            if not taken:
                return FAILED, "answers are not taken"
            del frame, outcome  # an idle socket holds no model

    async def _detect(self, frame: _Sent) -> Outcome:
        most = self._service.settings.max_body_bytes
        if len(frame.data) > most:
            raise BodyTooLarge(f"the frame has more than the {most} bytes allowed; send a smaller one")
        return await self._service.pipeline.detect(
            frame.data, self._service.plan(params_of(self._query), frame.arrived)
        )

    def _answer(self, frame: _Sent, outcome: Outcome | ServiceError) -> dict[str, Any]:
        where = {"frame": frame.index, "dropped": self._frames.dropped}
        failed = isinstance(outcome, ServiceError)
        self._counter.labels(route=ROUTE, outcome="failed" if failed else "answered").inc()
        if isinstance(outcome, ServiceError):
            return where | {"error": self._told(outcome)}
        return where | dict(to_wire(outcome, self._query))

    def _told(self, error: ServiceError) -> dict[str, str | int]:
        self._service.metrics.rejected.labels(code=error.code).inc()
        return problem(error, request_id.get())

    async def _send(self, message: dict[str, Any]) -> bool:
        """Whether the client took it."""
        try:
            async with asyncio.timeout(self._service.settings.timeout_ms / 1000):
                await self._socket.send_text(to_json(message).decode())
        except (TimeoutError, WebSocketDisconnect):
            return False
        return True

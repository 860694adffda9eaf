"""WS /detect/live: frames in as binary messages, detections out as JSON, always of the latest frame.

A frame that waits while the device is busy is replaced by a newer one and counted as dropped, so a result is
never older than the frame before it on the device and its own. A text message is a JSON object of options and
changes those that it names; null resets an option to its default. For the service each frame is a request,
with its own admission, deadline and errors. A failed frame is answered with its problem; the session goes on.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, WebSocket
from pydantic_core import from_json, to_json
from starlette.websockets import WebSocketDisconnect, WebSocketState

from app.errors import BodyTooLarge, Draining, InvalidParameter, ServiceError, problem
from app.schemas.limits import MAX_OPTIONS_TEXT
from app.schemas.options import JsonQuery
from app.serving.request import Outcome, Plan
from app.serving.service import DetectionService
from app.serving.streams import FATAL, LatestFrame, outcome_of
from app.telemetry.logs import request_id
from app.transport.access import SUBPROTOCOL, check_origin, require_socket_key
from app.transport.context import service_of, stream_slots_of
from app.transport.query import PriorityHeader, one_model, query_options, read_options, with_priority
from app.transport.responses import answer, fields_of
from app.transport.router import Router

router = Router("detection", access=None)
ROUTE = "/detect/live"
IDLE_SECONDS = 60.0  # without a message; a hidden page sends none, and opens the socket again later
NORMAL, RESTARTS, FAILED = 1000, 1012, 1011
"""Close codes of RFC 6455 and its registry; 1012 asks the client to connect again."""

_EXAMPLE = 'send, for example, {"score_threshold": 0.5}'


@router.websocket(ROUTE, dependencies=[Depends(check_origin), Depends(require_socket_key)])
async def live(
    socket: WebSocket,
    options: Annotated[JsonQuery, query_options(JsonQuery)],
    priority: PriorityHeader = None,
) -> None:
    """Answer the handshake with the problem, if there is one; else run until one side closes."""
    service = service_of(socket)
    if service.state != "ok":
        service.check_capacity()
    options = with_priority(options, priority)
    await service.plan_for(
        one_model(options), options, time.monotonic()
    )  # raises for options that do not fit
    with stream_slots_of(socket).hold(ROUTE):
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        code, reason = await _Session(socket, service, options).run()
        if socket.client_state is WebSocketState.CONNECTED:
            with suppress(WebSocketDisconnect, RuntimeError):  # the client disconnects at this moment
                await socket.close(code, reason)


@dataclass(frozen=True, eq=False)
class _ReceivedFrame:
    """A frame as received: its number in the order received, its file, when it arrived (monotonic)."""

    index: int
    data: bytes
    arrived: float


class _Session:
    """One open socket: a task that receives without waiting for the device, and one that detects."""

    def __init__(self, socket: WebSocket, service: DetectionService, options: JsonQuery) -> None:
        self._socket = socket
        self._service = service
        self._options = options
        self._frames: LatestFrame[_ReceivedFrame] = LatestFrame()
        self._received = 0
        self._counter = service.metrics.stream_frames

    async def run(self) -> tuple[int, str]:
        """Run until the client disconnects, is idle or takes nothing, or the service stops; how to close."""
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
                self._put_frame(data)
            elif not await self._change_options(message["text"]):
                return FAILED, "answers are not taken"

    def _put_frame(self, data: bytes) -> None:
        if self._frames.put(_ReceivedFrame(self._received, data, time.monotonic())):
            self._counter.labels(route=ROUTE, outcome="dropped").inc()
        self._received += 1

    async def _change_options(self, text: str) -> bool:
        """Change options and send them, or what is wrong with them; False where the client takes nothing."""
        try:
            self._options = await self._changed_options(text)
        except ServiceError as error:
            return await self._send({"error": self._problem(error)})
        return await self._send({"options": self._options})

    async def _changed_options(self, text: str) -> JsonQuery:
        if len(text) > MAX_OPTIONS_TEXT:
            raise InvalidParameter(
                f"options are longer than {MAX_OPTIONS_TEXT} characters; name only what changes"
            )
        try:
            change = from_json(text)
        except ValueError as error:
            raise InvalidParameter(f"options are no JSON ({error}); {_EXAMPLE}") from error
        if not isinstance(change, dict):
            raise InvalidParameter(f"options are no JSON object; {_EXAMPLE}")
        values = self._options.model_dump(exclude_unset=True) | change
        options = read_options(
            {name: value for name, value in values.items() if value is not None}, JsonQuery
        )
        await self._plan(options, time.monotonic())
        return options

    async def _serve(self) -> tuple[int, str]:
        """Take a frame when there is capacity and the one before is answered: the latest one."""
        while True:
            await self._frames.wait()
            refusal = await outcome_of(
                self._service.wait_for_capacity(time.monotonic(), self._options.priority)
            )
            frame = self._frames.take()
            outcome = await outcome_of(self._detect(frame)) if refusal is None else refusal
            taken = await self._send(self._message(frame, outcome))
            if isinstance(outcome, FATAL):
                return (RESTARTS if isinstance(outcome, Draining) else FAILED), outcome.code
            if not taken:
                return FAILED, "answers are not taken"
            del frame, outcome  # an idle socket holds no model

    async def _detect(self, frame: _ReceivedFrame) -> Outcome:
        limit = self._service.settings.max_body_bytes
        if len(frame.data) > limit:
            raise BodyTooLarge(f"the frame has more than the {limit} bytes allowed; send a smaller one")
        plan = await self._plan(self._options, frame.arrived)
        return await self._service.pipeline.detect(frame.data, plan)

    async def _plan(self, options: JsonQuery, started: float) -> Plan:
        return await self._service.plan_for(one_model(options), options, started)

    def _message(self, frame: _ReceivedFrame, outcome: Outcome | ServiceError) -> dict[str, Any]:
        numbers = {"frame": frame.index, "dropped": self._frames.dropped}
        failed = isinstance(outcome, ServiceError)
        self._counter.labels(route=ROUTE, outcome="failed" if failed else "answered").inc()
        if isinstance(outcome, ServiceError):
            return numbers | {"error": self._problem(outcome)}
        return numbers | fields_of(answer(outcome, self._options))

    def _problem(self, error: ServiceError) -> dict[str, str | int]:
        self._service.metrics.rejected.labels(code=error.code).inc()
        return problem(error, request_id.get())

    async def _send(self, message: dict[str, Any]) -> bool:
        """Send a message; False where the client does not take it in time."""
        try:
            async with asyncio.timeout(self._service.settings.timeout_ms / 1000):
                await self._socket.send_text(to_json(message).decode())
        except (TimeoutError, WebSocketDisconnect):
            return False
        return True

"""POST /detect/stream: the frames of a short video or an animation, answered one by one."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import Request, Response
from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from app.errors import InvalidParameter, ServiceError, problem
from app.schemas.options import StreamFormat, StreamQuery
from app.schemas.responses import FailedFrame, Problem, StreamEnd
from app.serving.request import DrawnFormat, Outcome
from app.serving.service import DetectionService
from app.serving.streams import MAX_FRAMES, EndOfStream, FrameResult, StreamSpec, detect_frames
from app.telemetry.logs import request_id
from app.transport.bodies.image_request import Accepted
from app.transport.bodies.images import read_image_request
from app.transport.context import service_of, stream_slots_of
from app.transport.disconnect import cancel_on_disconnect
from app.transport.openapi import (
    EVERYWHERE,
    FRAMES,
    OF_DETECTION,
    OF_MODEL,
    VIDEO_BODY,
    problems,
    query_parameters,
)
from app.transport.query import (
    PriorityHeader,
    one_model,
    query_options,
    with_body_options,
    with_priority,
)
from app.transport.responses import answer, fields_of, preferred
from app.transport.router import Router

router = Router("detection")
ROUTE = "/detect/stream"
BOUNDARY = "frame"
DRAWN: dict[StreamFormat, DrawnFormat] = {"jpeg": "jpeg", "png": "png"}
MEDIA_TYPES: dict[StreamFormat, str] = {
    "ndjson": "application/x-ndjson",
    "jpeg": "multipart/x-mixed-replace",
    "png": "image/png",
}


@router.post(
    ROUTE,
    summary="Detect objects in the frames of a short video or an animation",
    response_class=Response,
    responses={200: FRAMES, **problems(*OF_MODEL, *OF_DETECTION, *EVERYWHERE)},
    openapi_extra={"requestBody": VIDEO_BODY, "parameters": query_parameters(StreamQuery)},
)
async def detect_stream(
    request: Request,
    given: Annotated[StreamQuery, query_options(StreamQuery)],
    priority: PriorityHeader = None,
) -> Response:
    """One file as for /detect; a line of JSON for each frame, or the drawn frames, each when it is ready."""
    service, started = service_of(request), request.state.started
    options = with_priority(given, priority)
    plan, _ = await service.plan_for(one_model(options), options, started), _spec(request, options)
    await service.wait_for_capacity(started, plan.priority, plan.model)
    deadline = plan.deadline
    del plan  # it holds a model, and the body may name another one
    with ExitStack() as stack:
        stack.enter_context(stream_slots_of(request).hold(ROUTE))
        sent = await read_image_request(
            request, max(0.0, deadline - time.monotonic()), Accepted(StreamQuery, video=True)
        )
        options = with_priority(with_body_options(given, sent.options), priority)
        await service.plan_for(one_model(options), options, started)  # raises for options that do not fit
        spec = _spec(request, options)
        results = detect_frames(service, sent.one(), spec)
        first = await cancel_on_disconnect(request, anext(results))
        if isinstance(first, FrameResult) and isinstance(first.outcome, ServiceError):
            try:
                raise first.outcome  # nothing is sent yet: the error can still be the response itself
            finally:
                del first, results  # the error refers to this frame: a cycle would keep the pixels
        writer = _LineWriter(service, options) if spec.draw is None else _PartWriter(spec.draw)
        response = _StreamedResponse(request, writer, first, results, stack.pop_all())
    return response  # noqa: RET504  # inside the block, mypy assumes that an ExitStack may swallow errors


def _spec(request: Request, options: StreamQuery) -> StreamSpec:
    """How the frames are processed; raises InvalidParameter."""
    format = options.format or preferred(request.headers.get("accept"), MEDIA_TYPES)
    if options.max_frames is not None and options.max_frames > MAX_FRAMES:
        raise InvalidParameter(
            f"max_frames={options.max_frames}: this server answers at most {MAX_FRAMES} frames"
        )
    draw = DRAWN.get(format)
    name = one_model(options)
    return StreamSpec(options, options.every, options.max_frames or MAX_FRAMES, draw, name)


class _LineWriter:
    """NDJSON: a line for each frame, and a last one with the reason of the end."""

    media_type = MEDIA_TYPES["ndjson"]

    def __init__(self, service: DetectionService, options: StreamQuery) -> None:
        self._service = service
        self._options = options
        self._frames = 0

    def __call__(self, result: FrameResult | EndOfStream) -> bytes:
        """The bytes of a result."""
        return to_json(self._line(result)) + b"\n"

    def _line(self, result: FrameResult | EndOfStream) -> Any:
        if isinstance(result, EndOfStream):
            return StreamEnd(end=result.reason, frames=self._frames)
        self._frames += 1
        if isinstance(result.outcome, Outcome):
            response = answer(result.outcome, self._options)
            return {"frame": result.index, "seconds": result.seconds} | fields_of(response)
        return FailedFrame(frame=result.index, error=Problem.model_validate(_problem(result.outcome)))


class _PartWriter:
    """multipart/x-mixed-replace: the drawn frames; a frame that failed is a part with its problem."""

    media_type = f"{MEDIA_TYPES['jpeg']}; boundary={BOUNDARY}"

    def __init__(self, format: DrawnFormat) -> None:
        self._format = format

    def __call__(self, result: FrameResult | EndOfStream) -> bytes:
        """The bytes of a result."""
        if isinstance(result, EndOfStream):
            return f"--{BOUNDARY}--\r\n".encode()
        if isinstance(result.outcome, Outcome):
            model = result.outcome.model
            headers = f"X-Model: {model.name}\r\nX-Model-Version: {model.version}\r\n"
            return self._part(f"image/{self._format}", result.outcome.drawn or b"", headers)
        return self._part("application/problem+json", to_json(_problem(result.outcome)))

    def _part(self, media_type: str, body: bytes, headers: str = "") -> bytes:
        head = f"--{BOUNDARY}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        return head.encode() + body + b"\r\n"


def _problem(error: ServiceError) -> dict[str, str | int]:
    return problem(error, request_id.get())


class _StreamedResponse(Response):
    """A response in pieces: the next frame is detected after the client has taken the one before."""

    def __init__(
        self,
        request: Request,
        writer: _LineWriter | _PartWriter,
        first: FrameResult | EndOfStream,
        results: AsyncGenerator[FrameResult | EndOfStream, None],
        held: ExitStack,
    ) -> None:
        self.status_code, self.background = 200, None
        self.media_type = writer.media_type
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._request, self._held = request, held
        self._writer, self._first, self._results = writer, first, results
        self._service = service_of(request)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, or until the client disconnects or does not take a frame in time."""
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            result: FrameResult | EndOfStream | None = self._first
            del self._first
            while result is not None:
                await self._send_result(result, send)
                result = None  # it holds a model
                result = await cancel_on_disconnect(self._request, anext(self._results, None))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._held.close()
            await self._results.aclose()

    async def _send_result(self, result: FrameResult | EndOfStream, send: Send) -> None:
        if isinstance(result, FrameResult):
            self._count(result)
        message = {"type": "http.response.body", "body": self._writer(result), "more_body": True}
        try:
            async with asyncio.timeout(self._service.settings.timeout_ms / 1000):
                await send(message)
        except TimeoutError as error:
            raise ClientDisconnect from error  # it holds a slot and takes nothing

    def _count(self, result: FrameResult) -> None:
        failed = isinstance(result.outcome, ServiceError)
        frames = self._service.metrics.stream_frames
        frames.labels(route=ROUTE, outcome="failed" if failed else "answered").inc()
        if isinstance(result.outcome, ServiceError):
            self._service.metrics.rejected.labels(code=result.outcome.code).inc()

"""POST /detect/stream: the frames of a short video or an animation, answered one by one."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from app.errors import InvalidParameter, ServiceError, problem
from app.schemas.options import StreamFormat, StreamQuery
from app.schemas.responses import FailedFrame, Problem, StreamEnd
from app.serving.request import Outcome, params_of
from app.serving.service import DetectionService
from app.serving.streams import MAX_FRAMES, EndOfStream, FrameResult, StreamSpec, detect_frames
from app.telemetry.logs import request_id
from app.transport.access import Guarded
from app.transport.body import cancel_on_disconnect, read_image
from app.transport.context import service_of, stream_slots_of
from app.transport.openapi import EVERYWHERE, FRAMES, OF_DETECTION, VIDEO_BODY, problems, query_parameters
from app.transport.query import PARAMETER, read_query, requested_priority
from app.transport.responses import preferred, to_wire

router = APIRouter(tags=["detection"], route_class=Guarded)
ROUTE = "/detect/stream"
BOUNDARY = "frame"
KINDS: dict[StreamFormat, str] = {
    "ndjson": "application/x-ndjson",
    "jpeg": "multipart/x-mixed-replace",
    "png": "image/png",
}


@router.post(
    ROUTE,
    summary="Detect objects in the frames of a short video or an animation",
    response_class=Response,
    responses={200: FRAMES, **problems(*OF_DETECTION, *EVERYWHERE)},
    openapi_extra={"requestBody": VIDEO_BODY, "parameters": [*query_parameters(StreamQuery), PARAMETER]},
)
async def detect_stream(request: Request) -> Response:
    """One file as for /detect; a line of JSON a frame, or the drawn frames, each as soon as it is there."""
    service = service_of(request)
    await service.wait_for_capacity(request.state.started, requested_priority(request))
    query = read_query(request, StreamQuery)
    kind = query.format or preferred(request.headers.get("accept"), KINDS)
    plan = service.plan(params_of(query), request.state.started)
    order = _order(query, kind)
    with ExitStack() as stack:
        stack.enter_context(stream_slots_of(request).hold(ROUTE))
        data = await read_image(request, plan.seconds_left(), ("image/", "video/"))
        answers = detect_frames(service, data, order)
        first = await cancel_on_disconnect(request, anext(answers))
        if isinstance(first, FrameResult) and isinstance(first.outcome, ServiceError):
            raise first.outcome  # nothing is sent yet: it can still be the answer itself
        write = _Lines(service, query) if kind == "ndjson" else _Pictures(service, kind)
        response = _Streamed(request, write, first, answers, stack.pop_all())
    return response  # noqa: RET504  # in the block, mypy would take it that an ExitStack may swallow errors


def _order(query: StreamQuery, kind: StreamFormat) -> StreamSpec:
    if query.max_frames is not None and query.max_frames > MAX_FRAMES:
        raise InvalidParameter(
            f"max_frames={query.max_frames}: this server answers at most {MAX_FRAMES} frames"
        )
    draw = None if kind == "ndjson" else kind
    return StreamSpec(params_of(query), query.every, query.max_frames or MAX_FRAMES, draw)


class _Lines:
    """NDJSON: a line a frame, and one that says why it was the last."""

    media_type = KINDS["ndjson"]

    def __init__(self, service: DetectionService, query: StreamQuery) -> None:
        self._service = service
        self._query = query
        self._frames = 0

    def __call__(self, answer: FrameResult | EndOfStream) -> bytes:
        """The bytes of an answer."""
        return to_json(self._line(answer)) + b"\n"

    def _line(self, answer: FrameResult | EndOfStream) -> Any:
        if isinstance(answer, EndOfStream):
            return StreamEnd(end=answer.reason, frames=self._frames)
        self._frames += 1
        if isinstance(answer.outcome, Outcome):
            wire = to_wire(answer.outcome, self._query)
            return {"frame": answer.index, "seconds": answer.seconds} | dict(wire)
        return FailedFrame(frame=answer.index, error=Problem.model_validate(_told(answer.outcome)))


class _Pictures:
    """multipart/x-mixed-replace: the drawn frames; a frame that failed is a problem among them."""

    media_type = f"{KINDS['jpeg']}; boundary={BOUNDARY}"

    def __init__(self, service: DetectionService, kind: StreamFormat) -> None:
        self._kind = kind

    def __call__(self, answer: FrameResult | EndOfStream) -> bytes:
        """The bytes of an answer."""
        if isinstance(answer, EndOfStream):
            return f"--{BOUNDARY}--\r\n".encode()
        if isinstance(answer.outcome, Outcome):
            model = answer.outcome.model
            named = f"X-Model: {model.name}\r\nX-Model-Version: {model.version}\r\n"
            return self._part(f"image/{self._kind}", answer.outcome.drawn or b"", named)
        return self._part("application/problem+json", to_json(_told(answer.outcome)))

    def _part(self, media_type: str, body: bytes, more: str = "") -> bytes:
        head = f"--{BOUNDARY}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        return head.encode() + body + b"\r\n"


def _told(error: ServiceError) -> dict[str, str | int]:
    return problem(error, request_id.get())


class _Streamed(Response):
    """An answer in pieces: the next frame is begun when the client has taken the one before."""

    def __init__(
        self,
        request: Request,
        write: _Lines | _Pictures,
        first: FrameResult | EndOfStream,
        answers: AsyncGenerator[FrameResult | EndOfStream, None],
        held: ExitStack,
    ) -> None:
        self.status_code, self.background = 200, None
        self.media_type = write.media_type
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._request, self._held = request, held
        self._write, self._first, self._answers = write, first, answers
        self._service = service_of(request)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, or until the client has gone or takes nothing any more."""
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            answer: FrameResult | EndOfStream | None = self._first
            while answer is not None:
                await self._take(answer, send)
                answer = await cancel_on_disconnect(self._request, anext(self._answers, None))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._held.close()
            await self._answers.aclose()

    async def _take(self, answer: FrameResult | EndOfStream, send: Send) -> None:
        if isinstance(answer, FrameResult):
            self._count(answer)
        message = {"type": "http.response.body", "body": self._write(answer), "more_body": True}
        try:
            async with asyncio.timeout(self._service.settings.timeout_ms / 1000):
                await send(message)
        except TimeoutError as error:
            raise ClientDisconnect from error  # it holds a place and takes nothing

    def _count(self, answer: FrameResult) -> None:
        failed = isinstance(answer.outcome, ServiceError)
        frames = self._service.metrics.stream_frames
        frames.labels(route=ROUTE, outcome="failed" if failed else "answered").inc()
        if isinstance(answer.outcome, ServiceError):
            self._service.metrics.rejected.labels(code=answer.outcome.code).inc()

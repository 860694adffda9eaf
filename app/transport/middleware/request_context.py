"""Around every request, in pure ASGI: id, clock, log line, metrics, body limit, and what an error becomes."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError, ValidationException, WebSocketRequestValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import (
    PROBLEMS,
    RETRY_SECONDS,
    STOPPING,
    Dialect,
    Draining,
    Internal,
    InvalidParameter,
    MethodNotAllowed,
    NotFound,
    ServiceError,
)
from app.telemetry import tracing
from app.telemetry.logs import chosen_id, request_id
from app.telemetry.metrics import UNMATCHED, Metrics
from app.telemetry.request_log import OPENED, RequestRecord, RequestWork, counting_work, record
from app.transport.probes import Probes

logger = logging.getLogger("app.access")

ErrorHandler = Callable[[Request, Any], Coroutine[Any, Any, Response]]
Dialects = Callable[[Scope], Dialect]

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_BEGINNINGS = ("http.response.start", "websocket.http.response.start", "websocket.accept")


def only_problems(scope: Scope) -> Dialect:
    """The dialects of an app without any other protocol."""
    return PROBLEMS


class RequestContext:
    """Gives every request its id, and every outcome its header, log line and metrics."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        dialects: Dialects = only_problems,
        is_draining: Callable[[], bool] = lambda: False,
        probes: Probes | None = None,
    ) -> None:
        """`is_draining`: whether a request that is cancelled is so because the service stops."""
        self._app = app
        self._probes = probes or Probes()
        self._metrics = metrics
        self._dialects = dialects
        self._is_draining = is_draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection; anything but a request or a web socket passes through."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        span = self._begin_span(scope, headers)
        state = scope.setdefault("state", {})
        identity = chosen_id(headers.get("x-request-id", ""))
        answer = _Answer(send, identity, state.get("arrived", time.monotonic()), span)
        state["started"], answer.state = answer.started, state
        token = request_id.set(answer.request_id)
        try:
            with tracing.as_current(span), counting_work() as answer.work:
                await self._respond(scope, receive, answer)
        finally:
            request_id.reset(token)

    async def _respond(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            await self._guarded(scope, receive, answer)
            # uvloop sends when a turn of the loop ends: the client need not wait for the log line.
            await asyncio.sleep(0)
        finally:
            # The server keeps the scope as long as the connection is open: it must not hold a model.
            model = answer.state.pop("model", None)
            answer.work.model = getattr(model, "name", answer.work.model)
            self._record(scope, answer)

    async def _guarded(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            await self._app(scope, receive, answer.send)
        except ClientDisconnect:
            logger.debug("the client left before its answer")
        except asyncio.CancelledError:
            if not self._is_draining():
                raise
            if not answer.begun:  # else the server cuts the answer off
                await self._refuse(Draining(STOPPING, RETRY_SECONDS), scope, receive, answer)
        except Exception as error:  # the error handler: an exception that no route handles is a 500
            logging.getLogger(__name__).exception("unhandled error", exc_info=error)
            if answer.begun:
                raise  # too late for a problem: the server must cut the answer off, not end it
            internal = Internal(f"an error of the service; its log has the reason under {answer.request_id}")
            await self._refuse(internal, scope, receive, answer)

    async def _refuse(self, error: ServiceError, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        response = error_response(error, self._metrics, self._dialects(scope))
        await response(scope, receive, answer.send)

    def _record(self, scope: Scope, answer: "_Answer") -> None:
        route = getattr(scope.get("route"), "path", UNMATCHED)
        method = scope.get("method", "WS")
        attributes = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": answer.status,
            "rcnn.request_id": answer.request_id,
        } | ({"rcnn.model": answer.work.model} if answer.work.model else {})
        tracing.end_request(answer.span, f"{method} {route}", answer.status, attributes)
        request = RequestRecord(
            method,
            route,
            answer.status,
            seconds=time.monotonic() - answer.started,
            probe=self._is_probe(scope) and answer.status < 400,
            work=answer.work,
            client=(scope.get("client") or (None,))[0],
            received=getattr(answer.state.get("body"), "received", 0),
            sent=answer.sent,
            trace_id=tracing.trace_id(answer.span) if answer.span is not None else None,
        )
        record(self._metrics, request)

    def _begin_span(self, scope: Scope, headers: Headers) -> tracing.Span | None:
        """The request's span; none for a probe, nor for a web socket, which may stay open for days."""
        if scope["type"] != "http" or self._is_probe(scope):
            return None
        return tracing.begin(scope["method"], headers)

    def _is_probe(self, scope: Scope) -> bool:
        """Whether it is asked every few seconds, and so logged at debug when well."""
        return scope.get("method") in ("GET", "HEAD") and scope["path"] in self._probes


class _Answer:
    """What was sent so far; adds X-Request-ID, which model answers, and where it is traced traceresponse."""

    def __init__(self, send: Send, identity: str, started: float, span: tracing.Span | None = None) -> None:
        self._send = send
        self.span = span
        self.request_id = identity
        self.started = started
        self.status = tracing.GONE
        self.begun = False
        self.sent = 0
        self.work = RequestWork()
        self.state: dict[str, Any] = {}

    async def send(self, message: Message) -> None:
        if message["type"] in _BEGINNINGS:
            self.begun = True
            self.status = message.get("status", OPENED)
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.request_id
            headers["X-Content-Type-Options"] = "nosniff"
            headers.update(tracing.response_headers(self.span))
            if (model := self.state.get("model")) is not None:
                headers["X-Model"], headers["X-Model-Version"] = model.name, model.version
        self.sent += len(message.get("body", b""))
        await self._send(message)


def error_response(
    error: ServiceError, metrics: Metrics, dialect: Dialect, extra: Mapping[str, str] | None = None
) -> Response:
    """An error as a response in the dialect of its route; counts it by its code."""
    metrics.rejected.labels(code=error.code).inc()
    return Response(
        json.dumps(dialect.body(error, request_id.get())),
        status_code=error.status,
        headers={**error.headers(), **(extra or {})},
        media_type=dialect.media_type,
    )


def error_handlers(
    metrics: Metrics, dialects: Dialects = only_problems
) -> dict[int | type[Exception], ErrorHandler]:
    """The handlers of a ServiceError, of FastAPI's validation, and of the router's own errors."""

    async def on_service_error(request: HTTPConnection, error: ServiceError) -> Response:
        return error_response(error, metrics, dialects(request.scope))

    async def on_invalid_parameter(request: HTTPConnection, error: ValidationException) -> Response:
        return await on_service_error(request, InvalidParameter(_explain(error)))

    async def on_router_error(request: Request, error: HTTPException) -> Response:
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = ", ".join(_methods(request))
            wrong = MethodNotAllowed(f"this path takes {allowed} only")
            return error_response(wrong, metrics, dialects(request.scope), {"Allow": allowed})
        refusal = NotFound("no such path; GET /docs lists them all")
        return error_response(refusal, metrics, dialects(request.scope))

    return {
        ServiceError: on_service_error,
        RequestValidationError: on_invalid_parameter,
        WebSocketRequestValidationError: on_invalid_parameter,
        HTTPException: on_router_error,
    }


def _explain(error: ValidationException) -> str:
    """The texts of the errors; that of an `OptionSet` is complete, other parameters need their name."""
    faults = error.errors()
    return "; ".join(
        fault["msg"] if fault["type"] == "options" else f"{fault['loc'][-1]}: {fault['msg']}"
        for fault in faults
    )


def _methods(request: Request) -> list[str]:
    """The methods of all routes with this path; the router itself reports the first route only."""
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    return [
        method
        for method, scope in scopes.items()
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]

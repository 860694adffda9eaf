"""One replica: the app of `app.main` in Ray Serve."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.distributed.proxy import REQUEST_START
from app.main import create_app
from app.serving.interfaces import Detector
from app.serving.service import DetectionService
from app.settings.settings import Settings
from app.telemetry.metrics import merged

MAX_TRANSIT_SECONDS = 600.0  # from the proxy to a replica: the longest deadline there is
LEDGER_RETRY_SECONDS = 1.0


class LedgerClient(Protocol):
    """The ledger as a replica reaches it: calls raise OSError when it cannot be reached."""

    async def report(self, page: bytes | None) -> bool:
        """As `MetricsLedger.report`, for this replica."""

    async def scrape(self) -> dict[str, bytes]:
        """As `MetricsLedger.scrape`."""


class Replica:
    """A DetectionService that Ray Serve starts, checks and drains."""

    def __init__(
        self, settings: Settings, name: str, ledger: LedgerClient, detector: Detector | None = None
    ) -> None:
        """`detector` takes the place of the model that the settings name."""
        self.application = replica_app(create_app(settings, detector), name, ledger)

    @property
    def service(self) -> DetectionService:
        """The service inside."""
        service: DetectionService = self.application.state.service
        return service

    async def check_health(self) -> None:
        """As /health/ready, but it waits for the model; raises RuntimeError with the reason."""
        await self.service.started()
        if self.service.state not in ("ok", "draining"):
            raise RuntimeError(self.service.reason)


def replica_app(app: FastAPI, name: str, ledger: LedgerClient) -> FastAPI:
    """The app with the proxy's clock, the replica's name on responses, and the metrics of all replicas."""
    service: DetectionService = app.state.service
    app.add_middleware(ReplicaMiddleware, name=name)
    app.router.routes[:0] = _metrics_router(service, name, ledger).routes
    app.router.lifespan_context = _reporting(app.router.lifespan_context, service, ledger)
    return app


class ReplicaMiddleware:
    """Starts a request's clock when it arrived at the proxy, and names the replica on its response."""

    def __init__(self, app: ASGIApp, name: str) -> None:
        self._app = app
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection; the middleware inside takes its clock from `arrived`."""
        if scope["type"] in ("http", "websocket"):
            transit = _seconds_since(Headers(scope=scope).get(REQUEST_START, ""))
            scope.setdefault("state", {})["arrived"] = time.monotonic() - transit

        async def named(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                MutableHeaders(scope=message)["X-Replica"] = self._name
            await send(message)

        await self._app(scope, receive, named)


def _seconds_since(stamp: str) -> float:
    """Seconds since `t=SECONDS` of the wall clock, 0 for anything else; machines' clocks differ a little."""
    try:
        seconds = time.time() - float(stamp.removeprefix("t="))
    except ValueError:
        return 0.0
    return min(max(0.0, seconds), MAX_TRANSIT_SECONDS) if seconds == seconds else 0.0  # NaN


def _metrics_router(service: DetectionService, name: str, ledger: LedgerClient) -> APIRouter:
    router = APIRouter()

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        pages: dict[str, bytes] = {}
        with suppress(OSError):  # without the ledger, only this replica's own
            pages = await ledger.scrape()
        body, media_type = merged(pages | {name: service.metrics.render()[0]}, "replica")
        return Response(body, media_type=media_type)

    return router


def _reporting(lifespan: Callable[[Any], Any], service: DetectionService, ledger: LedgerClient) -> Any:
    @asynccontextmanager
    async def with_reports(app: FastAPI) -> AsyncIterator[Any]:
        async with lifespan(app) as state:
            reports = asyncio.create_task(_report_pages(service, ledger.report), name="reports")
            try:
                yield state
            finally:
                reports.cancel()

    return with_reports


async def _report_pages(service: DetectionService, report: Callable[[bytes | None], Awaitable[bool]]) -> None:
    page: bytes | None = None
    while True:
        try:
            page = service.metrics.render()[0] if await report(page) else None
        except OSError:
            page = None
            await asyncio.sleep(LEDGER_RETRY_SECONDS)

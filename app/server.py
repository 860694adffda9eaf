"""The process around the app: one socket, one event loop, and a graceful shutdown.

A first SIGTERM or SIGINT drains: new work gets 503 while the port still answers, accepted work is finished
within RCNN_DRAIN_SECONDS, then the server stops. A second one stops at once. When all devices are dead it
drains by itself and exits with 1, so that the orchestrator starts a new process: after a CUDA error every
further call of a process fails.
"""

import errno
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, cast

import uvicorn

from app.http_server.connections import KEEP_ALIVE_SECONDS, Connections, connection_limit, is_loopback
from app.http_server.forwarded import Forwarded
from app.http_server.http_protocol import BoundedHttp
from app.http_server.websocket_protocol import BoundedWebSocket
from app.main import create_app
from app.serving.interfaces import Detector
from app.serving.service import DetectionService
from app.settings.environment import tracing_is_installed
from app.settings.settings import Settings
from app.telemetry.logs import configure_logging

BACKLOG = 2048  # connections the kernel holds while the loop is busy; clients beyond it retry by themselves
TICKS_PER_SECOND = 10  # of uvicorn's loop
LAST_ANSWERS_SECONDS = 5  # for responses that are still being sent when all work is done

logger = logging.getLogger(__name__)


def serve(settings: Settings, detector: Detector | None = None) -> int:
    """Serve until a signal; returns the exit code, 0 after a signal, 1 if it could not start or go on.

    `detector` takes the place of the model that the settings name.
    """
    configure_logging(settings.log_level, settings.log_format)
    try:
        check_grpc(settings)
        check_tracing(settings)
        listener = _listen(settings)
        app = create_app(settings, detector, allowed_hosts=settings.checked_hosts)
    except OSError as error:
        logger.error("%s", error)
        return 1
    service: DetectionService = app.state.service
    server = Server(_uvicorn(app, settings), service)
    server.reload_at_hangup()
    server.run(sockets=[listener])
    if settings.uds:
        settings.uds.unlink(missing_ok=True)
    logger.info("stopped")
    if service.lost_devices or not service.closed_cleanly:
        # A library's clean-up may hang or crash on a dead device. Or a thread is still inside the model:
        # waiting for it may take forever, and ending the interpreter under it may crash. There is nothing
        # left to save.
        logging.shutdown()
        os._exit(server.exit_code)
    return server.exit_code


def _uvicorn(app: Callable[..., Any], settings: Settings) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        http=BoundedHttp,
        loop="uvloop",
        ws=BoundedWebSocket,
        ws_max_size=settings.max_body_bytes,
        ws_per_message_deflate=False,  # images are compressed already, and a message may inflate to GBs
        lifespan="on",
        log_config=None,  # app/telemetry/logs.py sets up logs, the middleware writes the access log
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=LAST_ANSWERS_SECONDS,
        proxy_headers=False,  # Forwarded does it
        forwarded_allow_ips="*" if settings.uds else ",".join(settings.forwarded_allow_ips) or None,
    )
    config.app = Forwarded(app, config.forwarded_allow_ips)
    return config


class Server(uvicorn.Server):
    """Uvicorn with a drain before its shutdown, and an exit code."""

    def __init__(self, config: uvicorn.Config, service: DetectionService) -> None:
        super().__init__(config)
        proxies = cast(Forwarded, config.app).proxies

        def is_exempt(address: str) -> bool:
            return is_loopback(address) or address in proxies

        self.connections = Connections(service.metrics, connection_limit(), is_exempt)
        self.server_state = self.connections
        self.exit_code = 0
        self._service = service
        self._logged_ready = self._logged_draining = self._hung_up = False

    def reload_at_hangup(self) -> None:
        """Let SIGHUP reload the models; not where it is ignored, as under nohup."""
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._on_hangup)

    def _on_hangup(self, sig: int, frame: FrameType | None) -> None:
        self._hung_up = True  # only this: a signal handler runs in the middle of other code

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, stop at once at the second."""
        if self._service.state == "draining":
            self.exit_code = 1
            self.force_exit = self.should_exit = True
        self._service.drain()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to stop now."""
        if await super().on_tick(counter):
            return True
        if counter % TICKS_PER_SECOND == 0:
            self.connections.sweep(time.monotonic())
        if self._service.lost_devices:
            self._give_up()
        if self._service.state == "draining":
            return await self._drained()
        if self._hung_up:
            self._hung_up = False
            self._service.reload_models()
        if self._service.failed_to_load:
            self.exit_code = 1
            return True
        if self._service.ready_at is not None and not self._logged_ready:
            self._logged_ready = True
            age = _process_age() - (time.monotonic() - self._service.ready_at)
            models = "; ".join(model.summary() for model in self._service.models.ready.values())
            logger.info("ready %.1f s after the start of the process: %s", age, models)
        return False

    def _give_up(self) -> None:
        """Drain, and exit with 1."""
        if self.exit_code == 0:
            logger.critical("no device works any more, and none will in this process: it exits with 1")
        self.exit_code = 1
        self._service.drain()

    async def _drained(self) -> bool:
        left = self._service.drain_seconds_left
        if not self._logged_draining:
            self._logged_draining = True
            logger.info("stopping: new requests are refused, accepted ones have %.1f s to finish", left)
        if not self._service.idle and left > 0:
            return False
        await self._service.close()
        return True


def check_grpc(settings: Settings) -> None:
    """Raise OSError if the gRPC port of the settings is taken or a package of the extra is not installed."""
    needed = {"grpcio": "grpc", "grpcio-reflection": "grpc_reflection"}
    missing = [name for name, module in needed.items() if find_spec(module) is None]
    if settings.grpc_port and missing:
        raise OSError(
            f"RCNN_GRPC_PORT needs {' and '.join(missing)}: pip install 'rcnn-serve[grpc]', or leave it out"
        )
    if settings.grpc_port:
        bind(settings, settings.grpc_port, "RCNN_GRPC_PORT").close()


def check_tracing(settings: Settings) -> None:
    """Raise OSError if the settings name a collector and the extra `tracing` is not installed."""
    if settings.otlp_endpoint and not tracing_is_installed():
        raise OSError(
            "RCNN_OTLP_ENDPOINT needs OpenTelemetry: pip install 'rcnn-serve[tracing]', or leave it out"
        )


def _listen(settings: Settings) -> socket.socket:
    if settings.uds:
        listener = bind_unix(settings.uds)
        logger.info("listening on unix:%s", settings.uds)
        return listener
    listener = bind(settings, settings.port, "RCNN_PORT")
    host = f"[{settings.host}]" if listener.family == socket.AF_INET6 else settings.host
    logger.info("listening on http://%s:%d", host, listener.getsockname()[1])
    return listener


def bind(settings: Settings, port: int, variable: str) -> socket.socket:
    """Listen on a port of the settings' host; raises OSError, which names the setting to change."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise OSError(
            f"cannot listen on {settings.host}:{port}: {error.strerror}; choose another RCNN_HOST "
            f"or {variable}"
        ) from error


def bind_unix(path: Path) -> socket.socket:
    """Listen on a Unix socket that all users may write to; raises OSError, also while another server listens.

    Its folder says who can reach it. The socket of a server that is gone is replaced.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket() and listener.connect_ex(str(path)) == errno.ECONNREFUSED:
            path.unlink()
        listener.close()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {path}: {error.strerror}; choose another RCNN_UDS") from error
    return listener


def _process_age() -> float:
    """Seconds since this process was started; on Linux the interpreter's own start is included."""
    stat = Path("/proc/self/stat")
    if not stat.exists():
        return time.process_time()  # a lower bound
    started_ticks = int(stat.read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")

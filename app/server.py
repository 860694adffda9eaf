"""The process around the app: one socket, one event loop, and a graceful shutdown.

A first SIGTERM or SIGINT drains, after RCNN_LINGER_SECONDS: new work gets 503 while the port still answers,
accepted work is finished within RCNN_DRAIN_SECONDS, then the server stops. A second one stops at once. When
all devices are dead it drains by itself and exits with 1, so that the orchestrator starts a new process:
after a CUDA error every further call of a process fails.
"""

import asyncio
import logging
import math
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
from app.http_server.sockets import BACKLOG, Listener, bind, is_stale
from app.http_server.systemd import Notifier
from app.http_server.tls import TlsHandshake
from app.http_server.websocket_protocol import BoundedWebSocket
from app.main import create_app
from app.serving.interfaces import Detector
from app.serving.service import DetectionService
from app.settings.certificate import Certificate
from app.settings.environment import SystemdVariables, tracing_is_installed
from app.settings.settings import Settings
from app.telemetry.logs import configure_logging

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
        certificate = read_certificate(settings)
        listener = bind_listener(settings)
        if settings.listen == "start":
            listener.open()
        app = create_app(settings, detector, allowed_hosts=settings.checked_hosts)
    except OSError as error:
        logger.error("%s", error)
        return 1
    service: DetectionService = app.state.service
    server = Server(uvicorn_config(app, settings), app.state, listener, certificate)
    server.reload_at_hangup()
    server.run()
    listener.close()
    logger.info("stopped")
    if service.lost_devices or not service.closed_cleanly:
        # A library's clean-up may hang or crash on a dead device. Or a thread is still inside the model:
        # waiting for it may take forever, and ending the interpreter under it may crash. There is nothing
        # left to save.
        logging.shutdown()
        os._exit(server.exit_code)
    return server.exit_code


def uvicorn_config(app: Callable[..., Any], settings: Settings) -> uvicorn.Config:
    """Uvicorn's own settings for the app."""
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

    def __init__(
        self, config: uvicorn.Config, state: Any, listener: Listener, certificate: Certificate | None
    ) -> None:
        """`state`: of the app; `certificate`: for TLS."""
        super().__init__(config)
        proxies = cast(Forwarded, config.app).proxies

        def is_exempt(address: str) -> bool:
            return is_loopback(address) or address in proxies

        self._service: DetectionService = state.service
        self._state, self._listener, self._certificate = state, listener, certificate
        self.connections = Connections(self._service.metrics, connection_limit(), is_exempt)
        self.server_state = self.connections
        self.exit_code = 0
        self._drain_at = math.inf
        systemd = SystemdVariables()
        self._systemd = Notifier(systemd.notify_socket, systemd.watchdog_seconds(os.getpid()))
        self._announced = self._logged_stop = self._logged_draining = self._hung_up = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app; the port opens now, or when the service is ready."""
        await super().startup(sockets=[])
        if self._service.settings.listen == "start":
            await self._open()
        else:
            logger.info("%s opens when the service is ready", self._listener.address)

    async def _open(self) -> None:
        """Take connections, over gRPC too; raises OSError."""
        await self._state.calls
        if self._service.settings.listen == "ready":
            self._listener.open()
        loop = asyncio.get_running_loop()
        self.servers.append(
            await loop.create_server(self._connection, sock=self._listener.socket, backlog=BACKLOG)
        )

    def _connection(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        if self._certificate is None:
            return self._http()
        return TlsHandshake(self.connections, self._certificate.context, self._http)

    def _http(self) -> BoundedHttp:
        return BoundedHttp(self.config, self.connections, self.lifespan.state)

    def reload_at_hangup(self) -> None:
        """Let SIGHUP reload the models; not where it is ignored, as under nohup."""
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._on_hangup)

    def _on_hangup(self, sig: int, frame: FrameType | None) -> None:
        self._hung_up = True  # only this: a signal handler runs in the middle of other code

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, after RCNN_LINGER_SECONDS; stop at once at the second.

        It sets flags only: a signal handler runs in the middle of other code. The next tick drains.
        """
        again, lingers = self._service.stopping, self._service.ready
        seconds = self._service.settings.linger_seconds if lingers else 0.0
        self._drain_at = time.monotonic() + seconds
        self._service.stopping = self.connections.ending = True
        if again:
            self.exit_code = 1
            self.force_exit = self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to stop now."""
        if await super().on_tick(counter):
            return True
        now = time.monotonic()
        self._systemd.sign_of_life(now)
        if counter % TICKS_PER_SECOND == 0:
            self.connections.sweep(now)
            if self._certificate is not None:
                self._certificate.refresh()
        if self._service.lost_devices:
            self._give_up()
        if self._service.stopping:
            return await self._stopped()
        if self._hung_up:
            self._hung_up = False
            self._service.reload_models()
        if self._service.failed_to_load:
            self.exit_code = 1
            return True
        return self._service.ready_at is not None and not self._announced and not await self._announce()

    async def _announce(self) -> bool:
        """Say that the service is ready, with its port open; False if that cannot be opened."""
        self._announced = True
        try:
            if not self.servers:
                await self._open()
        except OSError as error:
            logger.error("%s", error)
            self.exit_code = 1
            return False
        age = _process_age() - (time.monotonic() - (self._service.ready_at or 0.0))
        models = "; ".join(model.summary() for model in self._service.models.ready.values())
        logger.info("ready %.1f s after the start of the process: %s", age, models)
        self._systemd.tell_once("READY=1")
        return True

    def _give_up(self) -> None:
        """Drain, and exit with 1."""
        if self.exit_code == 0:
            logger.critical("no device works any more, and none will in this process: it exits with 1")
        self.exit_code = 1
        self._service.drain()

    async def _stopped(self) -> bool:
        """One step of the end: linger, drain, close; whether it is done."""
        lingers = time.monotonic() < self._drain_at and self._service.state != "draining"
        if not self._logged_stop:
            self._logged_stop = self.connections.ending = True
            self._systemd.tell_once("STOPPING=1")
            if lingers:
                seconds = self._service.settings.linger_seconds
                logger.info("not ready any more: requests are accepted for %.1f s, then it drains", seconds)
        if lingers:
            return False
        self._service.drain()
        left = self._service.drain_seconds_left
        if not self._logged_draining:
            self._logged_draining = True
            logger.info("stopping: new requests are refused, accepted ones have %.1f s to finish", left)
        if not self._service.idle and left > 0:
            return False
        await self._service.close()
        return True


def stale_socket(settings: Settings) -> Path | None:
    """The Unix socket to listen on, if it is one of a server that has ended or still loads."""
    return settings.uds if settings.uds is not None and is_stale(settings.uds) else None


def bind_listener(settings: Settings) -> Listener:
    """The socket of the settings, not open yet; raises OSError."""
    scheme = "http" if settings.tls_cert is None else "https"
    return Listener(settings.host, settings.port, settings.uds, scheme)


def read_certificate(settings: Settings) -> Certificate | None:
    """The certificate for TLS, None without; raises OSError."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificate(settings.tls_cert, settings.tls_key)


def check_grpc(settings: Settings) -> None:
    """Raise OSError if the gRPC port of the settings is taken or a package of the extra is not installed."""
    needed = {"grpcio": "grpc", "grpcio-reflection": "grpc_reflection"}
    missing = [name for name, module in needed.items() if find_spec(module) is None]
    if settings.grpc_port and missing:
        raise OSError(
            f"RCNN_GRPC_PORT needs {' and '.join(missing)}: pip install 'rcnn-serve[grpc]', or leave it out"
        )
    if settings.grpc_port:
        bind(settings.host, settings.grpc_port, "RCNN_GRPC_PORT").close()


def check_tracing(settings: Settings) -> None:
    """Raise OSError if the settings name a collector and the extra `tracing` is not installed."""
    if settings.otlp_endpoint and not tracing_is_installed():
        raise OSError(
            "RCNN_OTLP_ENDPOINT needs OpenTelemetry: pip install 'rcnn-serve[tracing]', or leave it out"
        )


def _process_age() -> float:
    """Seconds since this process was started; on Linux the interpreter's own start is included."""
    stat = Path("/proc/self/stat")
    if not stat.exists():
        return time.process_time()  # a lower bound
    started_ticks = int(stat.read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")

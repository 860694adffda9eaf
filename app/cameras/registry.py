"""The streams of this process by their names: started, listed, deleted; all of them end with the service.

They are kept in memory alone: a restart ends them.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from contextvars import Context
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType

from app.cameras.camera import Camera
from app.cameras.delivery import Delivery, Outlet, Pauses
from app.cameras.mqtt import Mqtt
from app.cameras.webhook import Webhook
from app.errors import Conflict, Forbidden, InvalidParameter, NotFound
from app.schemas.cameras import CameraRequest
from app.serving.service import DetectionService
from app.serving.streams import StreamSlots
from app.settings.stream_addresses import StreamAddress, parse_address, parse_allowed
from app.transport.query import one_model
from models.images.video.camera import SCHEMES
from models.images.video.frames import VideoUnavailable, pyav

ROUTE = "/streams"
THREADS_SECONDS = 2.0  # for the threads of all streams to leave their sources at the end of the service


@dataclass(frozen=True)
class _Places:
    """Where a stream comes from, and where its results go."""

    source: StreamAddress
    webhook: StreamAddress | None
    mqtt: StreamAddress | None


class Cameras:
    """The streams of a service; each holds one of the slots for streams until its thread has ended."""

    def __init__(self, service: DetectionService, slots: StreamSlots) -> None:
        self.pauses = Pauses()
        self._service = service
        self._slots = slots
        self._allowed = tuple(map(parse_allowed, service.settings.stream_addresses))
        self._cameras: dict[str, tuple[Camera, ExitStack]] = {}
        self._releasing = set[asyncio.Task[None]]()
        self._watching: asyncio.Task[None] | None = None

    @property
    def cameras(self) -> Mapping[str, Camera]:
        """The streams by their names, in the order in which they were started."""
        return MappingProxyType({name: camera for name, (camera, _) in self._cameras.items()})

    def find(self, name: str) -> Camera:
        """The stream of that name; raises NotFound."""
        if name not in self._cameras:
            raise NotFound(f"no stream is called {name[:64]!r}; GET /streams lists them all")
        return self._cameras[name][0]

    async def add(self, request: CameraRequest) -> Camera:
        """Start a stream; raises ServiceError and then changes nothing."""
        self._check_state()
        places = await asyncio.to_thread(self._checked_places, request)  # paths may be on a slow disk
        await _check_extras(request)
        await self._service.plan_for(one_model(request), request, time.monotonic())
        self._check_state()  # again, after the last wait: nothing would end a stream that starts later
        if request.name in self._cameras:
            raise Conflict(f"a stream is called {request.name!r} already; choose another name, or delete it")
        with ExitStack() as held:
            held.enter_context(self._slots.hold(ROUTE))
            camera = self._new_camera(request, places)
            camera.start()
            self._cameras[request.name] = (camera, held.pop_all())
        if self._watching is None:
            self._watching = asyncio.create_task(self._end_with_service(), context=Context())
        return camera

    async def remove(self, name: str, reason: str = "it was deleted") -> None:
        """End a stream; raises NotFound."""
        camera = self.find(name)
        _, held = self._cameras.pop(name)
        self._service.metrics.cameras.forget(name)
        await camera.stop(reason)
        task = asyncio.create_task(_release(camera, held), name="camera-release")
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    async def close(self) -> bool:
        """End all streams; whether every thread has left its source."""
        self._service.drain()
        if self._watching is not None:
            await self._watching
        if self._releasing:
            await asyncio.wait(self._releasing, timeout=THREADS_SECONDS)
        for task in self._releasing:
            task.cancel()
        return not self._releasing

    async def _end_with_service(self) -> None:
        await self._service.draining.wait()
        await asyncio.gather(*map(self._end, list(self._cameras)))

    async def _end(self, name: str) -> None:
        with suppress(NotFound):  # somebody has deleted it meanwhile
            await self.remove(name, "the service is stopping")

    def _check_state(self) -> None:
        """Raise Loading, Draining or Failing unless the service takes work."""
        if self._service.state != "ok":
            self._service.check_capacity()

    def _new_camera(self, request: CameraRequest, places: _Places) -> Camera:
        outlets = _outlets(request, places)
        receivers = tuple(outlet.receiver for outlet in outlets)
        counters = self._service.metrics.cameras.of(request.name, receivers)
        camera = Camera(self._service, request, places.source, counters, self.pauses)
        camera.deliveries = [
            Delivery(outlet, self.pauses, counters.deliveries[outlet.receiver]) for outlet in outlets
        ]
        if request.track:
            from app.cameras.tracking import ByteTrack  # an optional dependency

            camera.tracker = ByteTrack()
        return camera

    def _checked_places(self, request: CameraRequest) -> _Places:
        """The addresses in a request; raises Forbidden, InvalidParameter."""
        webhook, mqtt = request.webhook, request.mqtt
        return _Places(
            self._check_address("source", request.source, (*SCHEMES, "")),
            self._check_address("webhook.url", webhook.url, ("http", "https")) if webhook else None,
            self._check_address("mqtt.url", mqtt.url, ("mqtt", "mqtts")) if mqtt else None,
        )

    def _check_address(self, where: str, text: str, schemes: tuple[str, ...]) -> StreamAddress:
        """The address, if RCNN_STREAM_ADDRESSES has it; raises Forbidden, InvalidParameter."""
        try:
            address = parse_address(text).resolved()
        except (ValueError, RuntimeError, OSError) as error:  # RuntimeError: links in a circle
            raise InvalidParameter(f"{where}: {error}") from error
        if address.scheme not in schemes:
            allowed = ", ".join(scheme or "a path" for scheme in schemes)
            raise InvalidParameter(
                f"{where}: {address.scheme or 'a path'} is not allowed here; give {allowed}"
            )
        if not any(allowed.allows(address) for allowed in self._allowed):
            raise Forbidden(f"{where}: {address.public} is not in RCNN_STREAM_ADDRESSES; add it there")
        return address


async def _check_extras(request: CameraRequest) -> None:
    """Raise InvalidParameter where a library is missing."""
    try:
        await asyncio.to_thread(pyav)
    except VideoUnavailable as error:
        raise InvalidParameter(f"source: {error}") from error
    for wanted, module, extra in (
        (request.mqtt is not None, "aiomqtt", "mqtt"),
        (request.track, "trackers", "track"),
    ):
        if wanted and find_spec(module) is None:
            raise InvalidParameter(f"{extra}: it needs {module}: pip install 'rcnn-serve[{extra}]'")


def _outlets(request: CameraRequest, places: _Places) -> list[Outlet]:
    """The ways to the receivers of a request's results."""
    outlets: list[Outlet] = []
    if request.webhook is not None and places.webhook is not None:
        outlets.append(Webhook(places.webhook, request.webhook.secret.get_secret_value()))
    if request.mqtt is not None and places.mqtt is not None:
        outlets.append(Mqtt(places.mqtt, request.mqtt.topic))
    return outlets


async def _release(camera: Camera, held: ExitStack) -> None:
    with held:
        await camera.released()

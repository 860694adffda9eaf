"""Writes captures beside the requests: on a thread of its own, with bounded memory, never in their way."""

import asyncio
import json
import logging
import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from app.captures.files import Capture
from app.captures.rules import reason_to_keep
from app.captures.store import CaptureStore
from app.schemas.exports import Subject, to_coco
from app.serving.request import Outcome, Source
from app.settings.captures import parse_rules
from app.settings.settings import Settings
from app.telemetry.logs import request_id
from app.telemetry.metrics import Metrics
from app.telemetry.request_log import current_key
from models.images.headers import read_header

MAX_HELD_BYTES = 64 << 20
"""Images that wait to be written; beyond it they are not kept, as a slow disk must not fill the memory."""

SWEEP_SECONDS = 600.0  # between deletions of what is too old, where no image is written
SECONDS_A_DAY = 86_400.0
_SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif", "HEIF": ".heic"}

logger = logging.getLogger(__name__)


class CaptureRecorder:
    """Keeps the images that the rules select."""

    def __init__(self, settings: Settings, metrics: Metrics, store: CaptureStore) -> None:
        self.store = store
        self.settings = settings
        self._rules = parse_rules(settings.capture_rules)
        self._metrics = metrics
        self._writer = ThreadPoolExecutor(1, "captures")
        self.held_bytes = 0
        self._failing = False
        self._sweeping: asyncio.Task[None] | None = None

    def bounds(self) -> dict[str, str | float]:
        """What is kept and for how long, as in `CaptureBounds`."""
        settings, store = self.settings, self.store
        return {
            "rules": settings.capture_rules,
            "days": settings.capture_days,
            "max_bytes": settings.capture_max_bytes,
            "bytes": store.nbytes,
            "count": len(store),
        }

    def start(self) -> None:
        """Delete old captures from now on."""
        self._sweeping = asyncio.create_task(self._sweep_repeatedly(), name="captures")

    async def close(self) -> None:
        """Write what waits, and end the thread."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await asyncio.to_thread(self._writer.shutdown)

    def clear(self) -> None:
        """Delete all captures, those that wait to be written too; blocks. Raises OSError."""
        self._writer.submit(self.store.clear).result()  # after what waits: the writer has one thread

    def offer(self, source: Source, outcome: Outcome) -> None:
        """Keep the image if a rule selects it; frames of videos, which are no files, are never kept."""
        if not isinstance(source, bytes) or current_key() in self.settings.capture_except:
            return
        if (reason := reason_to_keep(self._rules, outcome)) is None:
            return
        if self.held_bytes + len(source) > MAX_HELD_BYTES:
            self._metrics.captures.labels(outcome="dropped").inc()
            return
        self.held_bytes += len(source)
        writing = self._writer.submit(self._write, source, outcome, reason, request_id.get())
        asyncio.wrap_future(writing).add_done_callback(lambda done: self._written(done, len(source)))

    def _write(self, image: bytes, outcome: Outcome, reason: str, request: str) -> None:
        self.store.add(_capture_of(image, outcome, reason, request), image)

    def _written(self, done: "asyncio.Future[None]", nbytes: int) -> None:
        self.held_bytes -= nbytes
        error = done.exception()
        self._metrics.captures.labels(outcome="kept" if error is None else "failed").inc()
        if error is not None and not self._failing:
            logger.warning("an image was not kept, and more may follow: %s", error)
        self._failing = error is not None

    async def _sweep_repeatedly(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await asyncio.to_thread(self.store.sweep)
            except OSError as error:
                logger.warning("old captures were not deleted: %s", error)


def open_recorder(settings: Settings, metrics: Metrics) -> CaptureRecorder | None:
    """The recorder of the settings, None where they keep no image; raises OSError."""
    if settings.capture_dir is None:
        return None
    max_seconds = settings.capture_days * SECONDS_A_DAY
    store = CaptureStore(settings.capture_dir, settings.capture_max_bytes, max_seconds)
    try:
        store.open()
    except OSError as error:
        raise OSError(
            f"RCNN_CAPTURE_DIR cannot be used: {error}; name a folder that can be written"
        ) from error
    metrics.capture_bytes.set_function(lambda: store.nbytes)
    return CaptureRecorder(settings, metrics, store)


def _capture_of(image: bytes, outcome: Outcome, reason: str, request: str) -> Capture:
    now, model = datetime.now(UTC), outcome.model
    name = f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03}-{secrets.token_hex(4)}"
    file = name + _suffix(image)
    subject = Subject(file, outcome.size, model.name, model.labels)
    return Capture(
        id=name,
        time=now.isoformat(timespec="milliseconds"),
        model=model.name,
        model_version=model.version,
        reason=reason,
        request_id=request,
        file=file,
        coco=json.loads(to_coco(outcome.detections, subject)),
    )


def _suffix(image: bytes) -> str:
    header = read_header(image)
    name = header.format if header else "bin"
    return _SUFFIXES.get(name, f".{name.lower()}")

"""Every Prometheus series of the service, declared once, on a given registry, in base units."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from app.telemetry.camera_metrics import CameraSeries

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The text format that every Prometheus since 0.4 reads."""

OPEN_METRICS = "application/openmetrics-text"

UNMATCHED = "unmatched"
"""The `route` label of a request without a route: paths that clients invent must not become labels."""

STAGES = ("decode", "queue", "dense", "proposals", "roi_align", "head", "postprocess")

_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_STAGE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_SHARES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
_DETECTIONS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class Series:
    """One series as docs/metrics.md lists it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str


class Metrics:
    """The series as attributes: `rcnn_NAME` without the prefix, unit and `_total`."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """On a new registry, or on one without process metrics, which are added here."""
        self.registry = registry if registry is not None else CollectorRegistry()
        self.series: list[Series] = []
        self._declare_requests()
        self._declare_connections()
        self._declare_decoding()
        self._declare_batches()
        self._declare_models()
        self._declare_devices()
        self._declare_captures()
        self.cameras = CameraSeries(self._counter, self._gauge)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The exposition text and its content type: OpenMetrics with exemplars if `accept` asks for it."""
        if OPEN_METRICS in accept.lower():
            return openmetrics.generate_latest(
                _WithoutCreated(self.registry)
            ), openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(_WithoutCreated(self.registry)), CONTENT_TYPE

    def count_detections(self, model: str, count: int) -> None:
        """Count the objects found in an image."""
        self.detections.labels(model=model).inc(count)
        self.detections_per_image.labels(model=model).observe(count)

    def _declare_requests(self) -> None:
        self.requests = self._counter(
            "rcnn_requests_total", "Finished requests, by route template and HTTP status.", "route", "status"
        )
        self.request_duration = self._histogram(
            "rcnn_request_duration_seconds",
            "Time from a request's first byte to the end of its response.",
            _REQUEST_SECONDS,
            "route",
        )
        self.in_flight = self._gauge("rcnn_in_flight", "Accepted requests without a response yet.")
        self.rejected = self._counter(
            "rcnn_rejected_total", "Requests refused or failed, by the code of their error.", "code"
        )
        self.key_requests = self._counter(
            "rcnn_key_requests_total", "Requests with a key of RCNN_API_KEYS_FILE that has a name.", "key"
        )
        self.cancelled = self._counter(
            "rcnn_cancelled_total",
            "Requests dropped before they reached the device, because the client had disconnected.",
        )
        self.deadline_exceeded = self._counter(
            "rcnn_deadline_exceeded_total", "Requests whose deadline passed, at any point."
        )
        self.by_priority = self._counter(
            "rcnn_priority_requests_total",
            "Requests by priority 0 to 2, each image of a batch on its own: `accepted`; `refused` with 429; "
            "accepted, then `shed` with 429 for a higher priority.",
            *("priority", "outcome"),
        )
        self.streams = self._gauge("rcnn_streams", "Open streams, by route template.", "route")
        self.stream_frames = self._counter(
            "rcnn_stream_frames_total",
            "Frames of streams: `answered`, `failed`, or `dropped` for a newer frame.",
            *("route", "outcome"),
        )

    def _declare_connections(self) -> None:
        self.connections = self._gauge(
            "rcnn_connections",
            "Open HTTP connections, by state: `head`, `body`, `response`, `discard` of a body that nobody "
            "reads, `idle`, `handshake`, `websocket`, `closing`.",
            "state",
        )
        self.connections_closed = self._counter(
            "rcnn_connections_closed_total",
            "HTTP connections that the server ended, by reason: the time of a state was over (its name), the "
            "client did not read (`stalled`), too many were open (`limit`), or too many unfinished ones of "
            "an address (`share`).",
            "reason",
        )

    def _declare_decoding(self) -> None:
        self.body_bytes = self._gauge(
            "rcnn_body_bytes",
            "Bytes of request bodies in memory, by who sent them: `user`, `stranger` (no key shown yet).",
            "sender",
        )
        self.abandoned_decodes = self._gauge(
            "rcnn_abandoned_decodes",
            "Decode threads that still work on an image of a request that is over.",
        )
        self.memory_errors = self._counter(
            "rcnn_memory_errors_total", "Images refused with 429 because the process had too little memory."
        )

    def _declare_batches(self) -> None:
        self.stage_duration = self._histogram(
            "rcnn_stage_duration_seconds",
            f"Time in one stage: {', '.join(STAGES)}. From `dense` on, of a whole batch. A batch that a GPU "
            "replays as one CUDA graph has `graph` in place of them.",
            _STAGE_SECONDS,
            *("stage", "model"),
        )
        self.queue_depth = self._gauge("rcnn_queue_depth", "Images waiting for a device.")
        self.priority_wait = self._histogram(
            "rcnn_priority_queue_seconds",
            "Time of an image in the queue, by the request's priority.",
            _STAGE_SECONDS,
            "priority",
        )
        self.queue_bytes = self._gauge("rcnn_queue_bytes", "Bytes held by accepted requests.")
        self.predicted_wait = self._gauge(
            "rcnn_predicted_wait_seconds", "Predicted seconds until all accepted requests have a response."
        )
        self.batch_size = self._histogram("rcnn_batch_size", "Images in a batch.", _BATCH_SIZES, "model")
        self.batch_duration = self._histogram(
            "rcnn_batch_duration_seconds", "Time of a batch on the device.", _REQUEST_SECONDS, "model"
        )
        self.padding_ratio = self._histogram(
            "rcnn_padding_ratio", "Fraction of a batch's pixels that are padding, 0 to 1.", _SHARES, "model"
        )
        self.batch_retries = self._counter(
            "rcnn_batch_retries_total",
            "Failed batches that were run again in parts, by reason: `memory`, `error`.",
            "reason",
        )

    def _declare_models(self) -> None:
        self.detections = self._counter("rcnn_detections_total", "Objects found, by model.", "model")
        self.detections_per_image = self._histogram(
            "rcnn_detections_per_image", "Objects found in one image.", _DETECTIONS, "model"
        )
        self.model_info = self._gauge(
            "rcnn_model_info",
            "Each loaded model; always 1.",
            *("name", "architecture", "engine", "precision", "device", "version"),
        )
        self.models_in_memory = self._gauge(
            "rcnn_models_in_memory",
            "Models in memory: one that was replaced or unloaded too, until its last response.",
        )
        self.model_loading = self._gauge(
            "rcnn_model_loading", "1 while a model is being loaded beside those that serve, else 0."
        )
        self.model_swaps = self._counter(
            "rcnn_model_swaps_total",
            "Loads of a model while others served: `switched`, `failed`.",
            "outcome",
        )
        self.model_load_failed = self._gauge(
            "rcnn_model_load_failed", "1 for a model whose last load failed; none otherwise.", "model"
        )
        self.model_requests = self._counter(
            "rcnn_model_requests_total", "Requests and frames that a model began to answer.", "model"
        )
        self.model_memory_bytes = self._gauge(
            "rcnn_model_memory_bytes",
            "What the process, or its first GPU, grew by when the model was loaded.",
            "model",
        )

    def _declare_captures(self) -> None:
        self.captures = self._counter(
            "rcnn_captures_total",
            "Images that a rule of RCNN_CAPTURE_RULES selected: `kept`, `dropped` as too many waited to be "
            "written, `failed` to be written.",
            "outcome",
        )
        self.capture_bytes = self._gauge("rcnn_capture_bytes", "Size of all captures.")

    def _declare_devices(self) -> None:
        self.model_ready = self._gauge("rcnn_model_ready", "1 when /health/ready answers 200, else 0.")
        self.device_memory_bytes = self._gauge(
            "rcnn_device_memory_bytes",
            "Memory of a CUDA device, by kind: `allocated` by tensors, `reserved` by torch for all of it, "
            "`graphs` of that by CUDA graphs. Not on the CPU.",
            "device",
            "kind",
        )
        self.cuda_graphs = self._gauge(
            "rcnn_cuda_graphs",
            "Shapes of batches (size and canvas) that a CUDA device replays as a CUDA graph. Not on the CPU.",
            "device",
        )
        self.devices = self._gauge(
            "rcnn_devices", "Devices by state: `working`, `stuck` in a call, `dead`.", "state"
        )

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        self.series.append(Series(name, "counter", labels, meaning))
        return Counter(name, meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        self.series.append(Series(name, "gauge", labels, meaning))
        return Gauge(name, meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        self.series.append(Series(name, "histogram", labels, meaning))
        return Histogram(name, meaning, labels, registry=self.registry, buckets=buckets)


class _WithoutCreated(Collector):
    """A registry without its `_created` series; the library's own switch for them is global."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


class _Families(Collector):
    """Families that were collected elsewhere."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def merged(pages: Mapping[str, bytes], label: str) -> tuple[bytes, str]:
    """The pages of several processes as one, and its content type; `label` is the process of a sample."""
    families: dict[str, Metric] = {}
    for process, page in sorted(pages.items()):
        for family in text_string_to_metric_families(page.decode()):
            whole = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            whole.samples += [
                sample._replace(labels={**sample.labels, label: process}) for sample in family.samples
            ]
    return generate_latest(_Families(families.values())), CONTENT_TYPE


def metrics_markdown() -> str:
    """The table of series in docs/metrics.md: name with its labels, type, meaning."""
    rows = [f"| `{_with_labels(series)}` | {series.kind} | {series.meaning} |" for series in Metrics().series]
    return "\n".join(["| Series | Type | Meaning |", "| --- | --- | --- |", *rows]) + "\n"


def _with_labels(series: Series) -> str:
    return series.name + (f"{{{','.join(series.labels)}}}" if series.labels else "")

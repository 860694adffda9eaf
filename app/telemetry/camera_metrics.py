"""The series of streams that POST /streams starts; those of a stream go when it is deleted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

FRAMES = ("answered", "failed", "dropped")
RECEIVERS = ("webhook", "mqtt")
DELIVERIES = ("delivered", "dropped", "failed")

Counts = Mapping[str, Counter]
"""Counters by outcome."""


@dataclass(frozen=True, eq=False)
class CameraCounters:
    """The series of one stream; `frames` by what became of them, `deliveries` by receiver and outcome."""

    running: Gauge
    connections: Counter
    frames: Counts
    deliveries: Mapping[str, Counts]


class CameraSeries:
    """The series of all streams; as many label values as streams are open."""

    def __init__(self, counter: Callable[..., Counter], gauge: Callable[..., Gauge]) -> None:
        """`counter`, `gauge`: declare a series by name, meaning and labels."""
        self._running = gauge(
            "rcnn_camera_running", "1 while frames come from the camera of a stream, else 0.", "stream"
        )
        self._connections = counter(
            "rcnn_camera_connections_total", "How often the camera of a stream was opened.", "stream"
        )
        self._frames = counter(
            "rcnn_camera_frames_total",
            "Frames of cameras: `answered`, `failed`, or `dropped` for a newer frame.",
            *("stream", "outcome"),
        )
        self._deliveries = counter(
            "rcnn_camera_deliveries_total",
            "Results of a stream for its `webhook` or `mqtt`: `delivered`, `dropped` for a newer one; and "
            "tries that `failed`.",
            *("stream", "receiver", "outcome"),
        )

    def of(self, stream: str, receivers: tuple[str, ...]) -> CameraCounters:
        """The series of a stream, from 0 on."""
        return CameraCounters(
            self._running.labels(stream=stream),
            self._connections.labels(stream=stream),
            {one: self._frames.labels(stream=stream, outcome=one) for one in FRAMES},
            {
                receiver: {
                    one: self._deliveries.labels(stream=stream, receiver=receiver, outcome=one)
                    for one in DELIVERIES
                }
                for receiver in receivers
            },
        )

    def forget(self, stream: str) -> None:
        """Leave out the series of a stream from now on."""
        self._running.remove(stream)
        self._connections.remove(stream)
        for outcome in FRAMES:
            self._frames.remove(stream, outcome)
        for receiver in RECEIVERS:
            for outcome in DELIVERIES:
                self._deliveries.remove(stream, receiver, outcome)

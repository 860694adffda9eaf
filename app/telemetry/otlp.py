"""Sends spans to an OpenTelemetry collector over OTLP; imported only where the settings name a collector.

OpenTelemetry's own variables (OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, …) are read
by its SDK and mean what its documentation says. Spans that a collector does not take are dropped.
"""

import threading
from collections.abc import Callable
from functools import partial

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from app import version

PATH = "/v1/traces"  # of every collector
EXPORT_SECONDS = 5  # for one batch of spans, attempts included


def connect(endpoint: str) -> Callable[[float], None] | None:
    """Let a background thread send this process's spans to the collector at that address.

    Returns a function that ends it and sends the last spans within so many seconds. None where the process
    has set up OpenTelemetry already: its spans go where that set-up sends them.
    """
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    address = endpoint.rstrip("/").removesuffix(PATH) + PATH
    ours = Resource.create({SERVICE_NAME: "rcnn-serve", SERVICE_VERSION: version()})
    provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(address, timeout=EXPORT_SECONDS)))
    trace.set_tracer_provider(provider)
    return partial(_close, provider)


def _close(provider: TracerProvider, seconds: float) -> None:
    # A collector that hangs must not delay the end of the process.
    last = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
    last.start()
    last.join(seconds)

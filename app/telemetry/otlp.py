"""Spans by OpenTelemetry, sent to a collector over OTLP; imported only where RCNN_OTLP_ENDPOINT is set.

OpenTelemetry's own variables (OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, …) are read
by its SDK and mean what its documentation says. Spans that a collector does not take are dropped.
"""

import threading
import time
from collections.abc import Mapping, Sequence

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app import version
from app.telemetry import tracing

PATH = "/v1/traces"  # of every collector
EXPORT_SECONDS = 5  # for one batch of spans, attempts included
NANOSECONDS = 1_000_000_000


class OtelSpan:
    """A span of OpenTelemetry's."""

    def __init__(self, tracer: trace.Tracer, span: trace.Span, began: int) -> None:
        """`began`: nanoseconds since 1970."""
        self._tracer = tracer
        self._began = began
        self.span = span

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        return trace.format_trace_id(self.span.get_span_context().trace_id)

    @property
    def traceparent(self) -> str:
        """This span as W3C's Trace Context writes it."""
        context = self.span.get_span_context()
        return f"00-{self.trace_id}-{trace.format_span_id(context.span_id)}-{int(context.trace_flags):02x}"

    @property
    def sampled(self) -> bool:
        """Whether it will be sent."""
        return self.span.get_span_context().trace_flags.sampled

    def child(self, name: str, links: Sequence[tracing.Span] = ()) -> "OtelSpan":
        """A span inside this one, begun now."""
        to = [trace.Link(_context_of(link)) for link in links]
        began = time.time_ns()
        span = self._tracer.start_span(
            name, context=trace.set_span_in_context(self.span), links=to, start_time=began
        )
        return OtelSpan(self._tracer, span, began)

    def stage(self, name: str, seconds: float) -> None:
        """A span inside this one that ends now and began so many seconds ago."""
        now = time.time_ns()
        span = self._tracer.start_span(
            name,
            context=trace.set_span_in_context(self.span),
            start_time=now - round(seconds * NANOSECONDS),
        )
        span.end(now)

    def describe(self, attributes: tracing.Attributes, name: str | None = None) -> None:
        """Add attributes, and a name that is known only now."""
        self.span.set_attributes(dict(attributes))
        if name is not None:
            self.span.update_name(name)

    def link(self, other: tracing.Span) -> None:
        """Point at a span of this trace or another."""
        self.span.add_link(_context_of(other))

    def end(self, error: BaseException | str | None = None, seconds: float | None = None) -> None:
        """End it now, or so many seconds after it began; the second end is none."""
        if not self.span.is_recording():
            return
        if error is not None:
            kind = "error" if isinstance(error, str) else type(error).__name__
            self.span.set_attribute("error.type", kind)
            self.span.set_status(trace.StatusCode.ERROR, str(error) or kind)
        self.span.end(None if seconds is None else self._began + round(seconds * NANOSECONDS))


class OtelTracer:
    """Begins the spans of requests on a provider that is handed in."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("rcnn-serve", version())
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, name: str, headers: Mapping[str, str]) -> OtelSpan:
        """The span of a request; it goes on with the trace of its `traceparent`, if that is a valid one."""
        context = self._propagator.extract(headers)
        began = time.time_ns()
        span = self._tracer.start_span(name, context, trace.SpanKind.SERVER, start_time=began)
        return OtelSpan(self._tracer, span, began)

    def close(self, seconds: float) -> None:
        """Send what is left, in so many seconds: a collector that hangs must not hold up the end."""
        last = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        last.start()
        last.join(seconds)


def connect(endpoint: str) -> OtelTracer:
    """A tracer whose spans a thread of its own sends to the collector at that address."""
    address = endpoint.rstrip("/").removesuffix(PATH) + PATH
    ours = Resource.create({SERVICE_NAME: "rcnn-serve", SERVICE_VERSION: version()})
    provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(address, timeout=EXPORT_SECONDS)))
    return OtelTracer(provider)


def _context_of(span: tracing.Span) -> trace.SpanContext:
    if not isinstance(span, OtelSpan):
        raise TypeError(f"{span!r} is no span of this tracer")
    return span.span.get_span_context()

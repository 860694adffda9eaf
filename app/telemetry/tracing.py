"""Traces by OpenTelemetry: where a request's time went, as spans. Where tracing is off, a span is None.

Spans go to the process's own OpenTelemetry set-up (`opentelemetry-instrument rcnn serve`, or code that calls
`set_tracer_provider`), else to the collector of RCNN_OTLP_ENDPOINT (app/telemetry/otlp.py). Without either
this costs a look at a variable.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from types import TracebackType

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app import version

Span = trace.Span
Attributes = Mapping[str, str | int | float]

FAILED = 500  # the least status that is a failure of the service
GONE = 499  # the client left before its response: nginx's code, only counted and logged, never sent
NANOSECONDS = 1_000_000_000


def begin(name: str, headers: Mapping[str, str]) -> Span | None:
    """The span of a request; it continues the trace that the headers name, if they name a valid one."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):  # OpenTelemetry is not set up
        return None
    from opentelemetry.propagate import extract  # reads OTEL_PROPAGATORS when it is imported

    return _tracer(provider).start_span(name, extract(headers), trace.SpanKind.SERVER)


def current() -> Span | None:
    """The span of the request being answered; None outside a request, and where it is not traced."""
    span = trace.get_current_span()
    return span if span.get_span_context().is_valid else None


def as_current(span: Span | None) -> AbstractContextManager[object]:
    """Makes it the span of everything that runs inside the block."""
    if span is None:
        return nullcontext()
    return trace.use_span(span, record_exception=False, set_status_on_exception=False)


class _SpanScope:
    """A span that ends with the block; an error that leaves the block marks it."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> Span:
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self._span, error)


def span(name: str) -> AbstractContextManager[Span | None]:
    """A part of the current request; None where it is not traced or not sampled."""
    parent = trace.get_current_span()
    return _SpanScope(_child(parent, name)) if parent.is_recording() else nullcontext()


def batch(requests: Sequence[Span | None]) -> AbstractContextManager[Span | None]:
    """One span for a batch, linked to every request in it; None where none of them is sampled.

    It is a child of the first request: the trace of a request that was alone in its batch is complete.
    """
    traced = [one for one in dict.fromkeys(requests) if one and one.get_span_context().trace_flags.sampled]
    return _SpanScope(_child(traced[0], "batch", traced)) if traced else nullcontext()


def stage(batch: Span | None, name: str, seconds: float) -> None:
    """Add a part of a batch that ends now and began so many seconds ago."""
    if batch is not None:
        now = time.time_ns()
        _child(batch, name, start=now - round(seconds * NANOSECONDS)).end(now)


def end(span: Span, error: BaseException | str | None = None, seconds_ago: float = 0.0) -> None:
    """End a span, with the error that ended its work; the first end counts."""
    if not span.is_recording():
        return
    if error is not None:
        kind = "error" if isinstance(error, str) else type(error).__name__
        span.set_attribute("error.type", kind)
        span.set_status(trace.StatusCode.ERROR, str(error) or kind)
    span.end(time.time_ns() - round(seconds_ago * NANOSECONDS))


def end_request(span: Span | None, name: str, status: int, attributes: Attributes) -> None:
    """End the span of a request: its name is known by now, its HTTP status says whether it failed."""
    if span is None:
        return
    span.set_attributes(dict(attributes))
    span.update_name(name)
    if status == GONE:
        end(span, "the client left before its answer")
    else:
        end(span, f"answered with {status}" if status >= FAILED else None)


def trace_id(span: Span) -> str:
    """32 hexadecimal digits."""
    return trace.format_trace_id(span.get_span_context().trace_id)


def response_headers(span: Span | None) -> dict[str, str]:
    """W3C's `traceresponse`, which names the span to the client; nothing where it is not traced."""
    sent: dict[str, str] = {}
    if span is not None:
        TraceContextTextMapPropagator().inject(sent, trace.set_span_in_context(span))
    return {"traceresponse": sent["traceparent"]} if sent else {}


def _child(parent: Span, name: str, links: Sequence[Span] = (), start: int | None = None) -> Span:
    return _tracer(trace.get_tracer_provider()).start_span(
        name,
        trace.set_span_in_context(parent),
        links=[trace.Link(link.get_span_context()) for link in links],
        start_time=start,
    )


@lru_cache(maxsize=1)
def _tracer(provider: trace.TracerProvider) -> trace.Tracer:
    return provider.get_tracer("rcnn-serve", version())

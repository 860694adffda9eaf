"""Traces: where the time of a request went, as spans. Without a tracer all of it is one look at a variable.

The middleware begins a request's span and keeps it in `current`; who has a part in the request says
`with span("decode"):`. A job takes its request's span to the device's thread, where `batch` makes one span of
all of them. What a span is, `app/telemetry/otlp.py` says, which is imported only where tracing is on.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from types import TracebackType
from typing import Protocol

Attributes = Mapping[str, str | int | float]

FAILED, GONE = 500, 499  # the least status that is our fault; a client that left before its answer


class Span(Protocol):
    """A stretch of time that belongs to a trace."""

    @property
    def trace_id(self) -> str: ...  # 32 hexadecimal digits
    @property
    def traceparent(self) -> str: ...  # W3C: version, trace, span, flags
    @property
    def sampled(self) -> bool: ...  # False: nobody will see it
    def child(self, name: str, links: Sequence["Span"] = ()) -> "Span": ...
    def stage(self, name: str, seconds: float) -> None: ...  # a child that ends now and began before
    def describe(self, attributes: Attributes, name: str | None = None) -> None: ...
    def link(self, other: "Span") -> None: ...

    # The first end is the only one; `seconds`: so long after the beginning, and not now.
    def end(self, error: BaseException | str | None = None, seconds: float | None = None) -> None: ...


class Tracer(Protocol):
    """What begins traces, and sends them somewhere."""

    # With a valid `traceparent` among the headers the span goes on with that trace.
    def begin(self, name: str, headers: Mapping[str, str]) -> Span: ...

    # Send what is left, in so many seconds; blocks.
    def close(self, seconds: float) -> None: ...


current: ContextVar[Span | None] = ContextVar("span", default=None)
"""The span of the request being answered; None outside a request, and where it is not traced."""


class _Lasting:
    """A span that lasts as long as a `with`, and tells of the error that ends it."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> Span:
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._span.end(error)


def span(name: str) -> AbstractContextManager[Span | None]:
    """A part of the current request; None where it is not traced."""
    parent = current.get()
    return nullcontext() if parent is None else _Lasting(parent.child(name))


def batch(requests: Sequence[Span | None]) -> AbstractContextManager[Span | None]:
    """One span for a batch, linked to every request in it; None where none of them is traced.

    It is a child of the first: so the trace of a request that was alone in its batch is whole.
    """
    traced = [one for one in dict.fromkeys(requests) if one is not None and one.sampled]
    if not traced:
        return nullcontext()
    return _Lasting(traced[0].child("batch", traced))


def answered(span: Span | None, name: str, status: int, attributes: Attributes) -> None:
    """End the span of a request: its name is known by now, its HTTP status says whether it failed."""
    if span is None:
        return
    span.describe(attributes, name)
    if status == GONE:
        span.end("the client left before its answer")
    else:
        span.end(f"answered with {status}" if status >= FAILED else None)

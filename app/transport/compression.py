"""Bodies in gzip or deflate, both ways: inflated piece by piece under the body limit, for bombs are small."""

import gzip
import zlib
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from app.errors import InvalidParameter, UnsupportedMediaType

CODINGS = ("gzip", "deflate")

_WINDOWS = {"gzip": 31, "deflate": 15}  # zlib's bits, which name the wrapper too
_PIECE = 1 << 18  # bytes inflated at a time
_SMALLEST = 1024  # an answer below it is not worth it

Count = Callable[[int], None]
"""Counts so many bytes more of a request's body (fewer, if negative); raises BodyTooLarge or Overloaded."""


async def read_body(request: Request) -> bytes:
    """The body, inflated as its Content-Encoding says; the body limit holds for what it inflates to."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding == "identity":
        return await request.body()
    if coding not in CODINGS:
        raise UnsupportedMediaType(f"Content-Encoding {coding[:60]!r}; send {' or '.join(CODINGS)}, or none")
    return b"".join([piece async for piece in _inflated(request, coding)])


async def _inflated(request: Request, coding: str) -> AsyncIterator[bytes]:
    count: Count = request.state.count_body
    inflater = zlib.decompressobj(_WINDOWS[coding])
    async for chunk in request.stream():
        count(-len(chunk))  # from now on it counts as what it inflates to
        while chunk or inflater.unconsumed_tail:
            if inflater.eof:
                raise _damaged(coding, "there are bytes after its end")
            piece = await run_in_threadpool(_step, inflater, inflater.unconsumed_tail + chunk, coding)
            chunk = inflater.unused_data
            count(len(piece))
            yield piece
    if not inflater.eof:
        raise _damaged(coding, "it ends too early")


def _step(inflater: "zlib._Decompress", data: bytes, coding: str) -> bytes:
    try:
        return inflater.decompress(data, _PIECE)
    except zlib.error as error:
        raise _damaged(coding, "its content is damaged") from error


def _damaged(coding: str, reason: str) -> InvalidParameter:
    return InvalidParameter(f"the body is no {coding}: {reason}; send it whole, or without Content-Encoding")


def compressed(body: bytes, accept: str | None) -> tuple[bytes, dict[str, str]]:
    """An answer's body as the client's Accept-Encoding would have it, and the headers that say so."""
    coding = _preferred(accept or "") if len(body) >= _SMALLEST else None
    if coding is None:
        return body, {"Vary": "Accept-Encoding"}
    smaller = gzip.compress(body, 5, mtime=0) if coding == "gzip" else zlib.compress(body, 5)
    return smaller, {"Vary": "Accept-Encoding", "Content-Encoding": coding}


def _preferred(accept: str) -> str | None:
    """The first coding that an Accept-Encoding names and does not refuse; None for neither."""
    named = {}
    for one in accept.split(",")[:64]:
        name, _, options = one.partition(";")
        named[name.strip().lower()] = options.replace(" ", "").lower() not in ("q=0", "q=0.0", "q=0.00")
    return next((coding for coding in named if coding in CODINGS and named[coding]), None)

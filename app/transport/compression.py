"""Request and response bodies in gzip or deflate; inflates in pieces under the body limit, against bombs."""

import gzip
import zlib
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from app.errors import InvalidParameter, UnsupportedMediaType
from app.schemas.limits import MAX_QUOTED
from app.transport.middleware.body_limit import body_count

CODINGS = ("gzip", "deflate")

_WINDOWS = {"gzip": 31, "deflate": 15}  # zlib's bits, which name the wrapper too
_PIECE = 1 << 18  # bytes inflated at a time
_SMALLEST = 1024  # bytes of a response; a smaller one is not compressed


async def read_body(request: Request) -> bytes:
    """The body, inflated by its Content-Encoding; the body limit applies to the inflated size."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding == "identity":
        return await request.body()
    if coding not in CODINGS:
        raise UnsupportedMediaType(
            f"Content-Encoding {coding[:MAX_QUOTED]!r}; send {' or '.join(CODINGS)}, or none"
        )
    return b"".join([piece async for piece in _inflated(request, coding)])


async def _inflated(request: Request, coding: str) -> AsyncIterator[bytes]:
    count = body_count(request).add
    inflater = zlib.decompressobj(_WINDOWS[coding])
    async for chunk in request.stream():
        count(-len(chunk))  # its inflated size is counted instead
        while chunk or inflater.unconsumed_tail:
            if inflater.eof:
                raise _damaged(coding, "bytes follow its end")
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
    return InvalidParameter(
        f"the body is not valid {coding}: {reason}; send it complete, or without Content-Encoding"
    )


def compressed(body: bytes, accept: str | None) -> tuple[bytes, dict[str, str]]:
    """A response body, compressed if Accept-Encoding allows it, and its headers."""
    coding = _preferred(accept or "") if len(body) >= _SMALLEST else None
    if coding is None:
        return body, {"Vary": "Accept-Encoding"}
    smaller = gzip.compress(body, 5, mtime=0) if coding == "gzip" else zlib.compress(body, 5)
    return smaller, {"Vary": "Accept-Encoding", "Content-Encoding": coding}


def _preferred(accept: str) -> str | None:
    """The first coding that an Accept-Encoding allows; None without one."""
    allowed = {}
    for item in accept.split(",")[:64]:
        name, _, options = item.partition(";")
        allowed[name.strip().lower()] = options.replace(" ", "").lower() not in ("q=0", "q=0.0", "q=0.00")
    return next((coding for coding in allowed if coding in CODINGS and allowed[coding]), None)

"""Request bodies in gzip, deflate or zstd, inflated in pieces under the body limit, against bombs."""

import sys
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import InvalidParameter, UnsupportedMediaType
from app.schemas.limits import MAX_QUOTED
from app.transport.middleware.body_limit import BodyCount

CODINGS = ("gzip", "deflate", "zstd")

_ALIASES = {"x-gzip": "gzip"}  # RFC 9110 §8.4.1.3
_PIECE = 1 << 18  # bytes inflated at a time
_MAX_MEMBERS = 4096  # of a body: `bgzip` begins one after 64 KB
_ZSTD_WINDOW = 23  # log2 of the bytes that a frame may refer back to: 8 MB, as RFC 9659 allows in HTTP


class Inflate:
    """Gives every route its body inflated, whatever its Content-Encoding; the limit counts inflated bytes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection; a wrong coding is refused when the route reads the body."""
        coding = _coding(scope) if scope["type"] == "http" else ""
        if coding:
            receive = _inflated(coding, receive, scope["state"]["body"])
        await self._app(scope, receive, send)


def _coding(scope: Scope) -> str:
    """The codings of the body, without `identity`."""
    header = ",".join(Headers(scope=scope).getlist("content-encoding")).lower()
    names = (name.strip() for name in header.split(","))
    return ", ".join(_ALIASES.get(name, name) for name in names if name not in ("", "identity"))


def _inflated(coding: str, receive: Receive, count: BodyCount) -> Receive:
    messages = _messages(coding, receive, count)

    async def receive_inflated() -> Message:
        return await anext(messages, None) or await receive()

    return receive_inflated


async def _messages(coding: str, receive: Receive, count: BodyCount) -> AsyncIterator[Message]:
    inflater, more = _Inflater(coding), True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            yield message
            return
        chunk, more = message.get("body", b""), message.get("more_body", False)
        count.add(-len(chunk))  # its inflated size is counted instead
        while piece := await run_in_threadpool(inflater.step, chunk):
            chunk = b""
            count.add(len(piece))
            yield {"type": "http.request", "body": piece, "more_body": True}
    inflater.check_complete()
    yield {"type": "http.request", "body": b"", "more_body": False}


class _Engine(Protocol):
    """A decompressor of one member or frame, as those of the standard library."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Inflater:
    """Inflates a body of one or more members piece by piece; raises InvalidParameter for damage."""

    def __init__(self, coding: str) -> None:
        """Raises UnsupportedMediaType for a coding that is none of ours."""
        if coding not in CODINGS:
            raise UnsupportedMediaType(
                f"Content-Encoding {coding[:MAX_QUOTED]!r}; send one of {', '.join(CODINGS)}, or none"
            )
        self._coding = coding
        self._start, self._errors = _zstd() if coding == "zstd" else (_zlib(coding), (zlib.error,))
        self._engine: _Engine | None = None
        self._members = 0

    def step(self, data: bytes) -> bytes:
        """The next piece after these compressed bytes; b"" where more of them are needed."""
        while True:
            if self._engine is None or self._engine.eof:
                data = (self._engine.unused_data if self._engine else b"") + data
                if not data:
                    return b""
                self._engine = self._next(data)
            piece = self._decompress(self._engine, data)
            data = b""
            if piece or not self._engine.eof:
                return piece

    def check_complete(self) -> None:
        """Raise InvalidParameter where the body ended too early."""
        if self._engine is None or not self._engine.eof:
            raise self._damaged("it ends too early")

    def _next(self, data: bytes) -> _Engine:
        self._members += 1
        if self._members > _MAX_MEMBERS or (self._engine and self._coding == "deflate"):
            raise self._damaged("bytes follow its end")
        return self._start(data)

    def _decompress(self, engine: _Engine, data: bytes) -> bytes:
        try:
            return engine.decompress(data, _PIECE)
        except self._errors as error:
            raise self._damaged("its content is damaged") from error

    def _damaged(self, reason: str) -> InvalidParameter:
        return InvalidParameter(
            f"the body is not valid {self._coding}: {reason}; send it complete, or without Content-Encoding"
        )


class _Zlib:
    """zlib's decompressor, which keeps what it has not read yet."""

    def __init__(self, window: int) -> None:
        self._engine = zlib.decompressobj(window)

    @property
    def eof(self) -> bool:
        return self._engine.eof

    @property
    def unused_data(self) -> bytes:
        return self._engine.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._engine.decompress(self._engine.unconsumed_tail + data, max_length)


def _zlib(coding: str) -> Callable[[bytes], _Engine]:
    """Starts by the first byte: many clients send deflate without zlib's wrapper."""

    def start(data: bytes) -> _Engine:
        if coding == "gzip":
            return _Zlib(16 + zlib.MAX_WBITS)
        wrapped = data[0] & 15 == zlib.DEFLATED
        return _Zlib(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)

    return start


def _zstd() -> tuple[Callable[[bytes], _Engine], tuple[type[Exception], ...]]:
    try:
        zstd = _import_zstd()
    except ImportError as error:
        raise UnsupportedMediaType(
            "Content-Encoding 'zstd' needs an extra of the server: pip install 'rcnn-serve[zstd]'; send gzip"
        ) from error
    options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW}

    def start(_: bytes) -> _Engine:
        engine: _Engine = zstd.ZstdDecompressor(options=options)
        return engine

    return start, (zstd.ZstdError,)


def _import_zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd

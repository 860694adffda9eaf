"""A gRPC client in frames of HTTP/2, that may stop in the middle of a message or never read a response."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

DATA, HEADERS, RST_STREAM, SETTINGS, PING = 0, 1, 3, 4, 6
END_STREAM, END_HEADERS, ACK = 1, 4, 1
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4


class RawCalls:
    """Calls of one connection; the only status that it reads is that of a call refused from its headers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._next = 1

    def begin(self, path: str, **metadata: str) -> int:
        """Send the headers of a call; its number."""
        number, self._next = self._next, self._next + 2
        headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "test"}
        headers |= {"te": "trailers", "content-type": "application/grpc"}
        block = b"".join(b"\0" + _text(key) + _text(value) for key, value in (headers | metadata).items())
        self._send(HEADERS, END_HEADERS, number, block)
        return number

    def message(self, number: int, length: int, sent: bytes) -> None:
        """Send the beginning of a message that is announced with a length."""
        self._send(DATA, 0, number, struct.pack(">BI", 0, length) + sent)

    async def settings(self) -> dict[int, int]:
        """The server's settings, which are its first frame."""
        _, _, _, payload = await self._receive()
        return dict(struct.iter_unpack(">HI", payload))

    async def ended(self, number: int) -> bytes:
        """Wait until the server has ended a call; the block of its last headers."""
        while True:
            kind, flags, stream, payload = await self._receive()
            if kind == HEADERS and flags & END_STREAM and stream == number:
                return payload
            if kind in (SETTINGS, PING) and not flags & ACK:
                self._send(kind, ACK, 0, payload if kind == PING else b"")

    async def _receive(self) -> tuple[int, int, int, bytes]:
        head = await self._reader.readexactly(9)
        payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
        return head[3], head[4], int.from_bytes(head[5:], "big"), payload

    def _send(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self._writer.write(
            struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload
        )


@asynccontextmanager
async def raw_calls(port: int, window: int = 65535) -> AsyncIterator[RawCalls]:
    """A connection; `window`: how many bytes of a response the client takes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    calls = RawCalls(reader, writer)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    calls._send(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window))
    try:
        yield calls
    finally:
        writer.close()
        await writer.wait_closed()


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()

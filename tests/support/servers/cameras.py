"""A camera and a receiver of results, as servers of this machine; and the app that reads that camera."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from tenacity import RetryCallState

from app.cameras.delivery import Pauses
from tests.support.data.moving import Socket
from tests.support.fakes import FakeDetector, picture
from tests.support.served import Served, serve_app

ADMIN = {"X-API-Key": "chief"}
JPEG = picture(format="JPEG")
DENIED = b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="camera"\r\nContent-Length: 0\r\n\r\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
PART = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n"


class Server:
    """A server on a port of this machine; `cut` ends all of its connections."""

    def __init__(self) -> None:
        self._open: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self.host = ""

    def cut(self) -> None:
        for writer in self._open.values():
            writer.transport.abort()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Use a connection."""
        raise NotImplementedError

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self.answer(reader, writer)
        del self._open[task]
        writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield
        finally:
            server.close()
            self.cut()
            await asyncio.gather(*self._open, return_exceptions=True)


class MotionJpeg(Server):
    """A camera over HTTP with a password: pictures without end, until it is cut."""

    def __init__(self) -> None:
        super().__init__()
        self.connections = 0  # with the password

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"\r\nauthorization: basic " not in head.lower():
            writer.write(DENIED)
            return
        self.connections += 1
        writer.write(HEAD)
        while True:
            writer.write(PART % (len(JPEG), JPEG))
            await writer.drain()
            await asyncio.sleep(0.01)  # between pictures


class Receiver(Server):
    """Takes POST requests: each waits until there is a status for it."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[str, bytes]] = []  # head and body
        self.statuses: asyncio.Queue[int | None] = asyncio.Queue()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            self.requests.append((head, await reader.readexactly(length)))
            if (status := await self.statuses.get()) is None:
                return
            writer.write(b"HTTP/1.1 %d So\r\nContent-Length: 0\r\n\r\n" % status)

    def cut(self) -> None:
        super().cut()
        for _ in self._open:
            self.statuses.put_nowait(None)


@dataclass(frozen=True)
class ShortPauses(Pauses):
    """Milliseconds; notes the number of each try that failed."""

    first: float = 0.01
    longest: float = 0.02
    failed: list[int] = field(default_factory=list)

    def __call__(self, state: RetryCallState) -> float:
        self.failed.append(state.attempt_number)
        return super().__call__(state)


@dataclass(frozen=True)
class Watched:
    """The app, a camera that it may read, and what a client does."""

    served: Served
    camera: MotionJpeg
    pauses: ShortPauses

    @property
    def source(self) -> str:
        return f"http://admin:pass-word@{self.camera.host}/video?token=tok-en"

    async def post(self, **body: Any) -> httpx.Response:
        values = {"name": "gate", "source": self.source} | body
        return await self.served.client.post("/streams", json=values, headers=ADMIN)

    async def start(self, **body: Any) -> dict[str, Any]:
        answer = await self.post(**body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def entry(self, name: str = "gate") -> dict[str, Any]:
        answer = await self.served.client.get(f"/streams/{name}", headers=ADMIN)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def delete(self, name: str = "gate") -> int:
        return (await self.served.client.delete(f"/streams/{name}", headers=ADMIN)).status_code

    async def watch(self, name: str = "gate") -> Socket:
        """An open web socket."""
        socket = Socket(self.served.app, f"/streams/{name}/detections", x_api_key="chief")
        await socket.opened()
        return socket


@asynccontextmanager
async def watched(
    detector: FakeDetector | None = None, addresses: tuple[str, ...] = (), **settings: Any
) -> AsyncIterator[Watched]:
    """The app, which tries again after milliseconds, and a camera."""
    camera, pauses = MotionJpeg(), ShortPauses()
    async with camera.listening():
        allowed = (f"http://{camera.host}", *addresses)
        chosen = {"admin_keys": "chief", "stream_addresses": allowed} | settings
        async with serve_app(detector, **chosen) as served:
            if served.app.state.cameras is not None:
                served.app.state.cameras.pauses = pauses
            yield Watched(served, camera, pauses)


async def line_with(socket: Socket, key: str, value: Any = ...) -> dict[str, Any]:
    """The next line that has the key, with this value."""
    while True:
        line = await socket.answer()
        if key in line and value in (..., line[key]):
            return line

"""The HTTP server on a socket of the test's own loop, with its registry of connections."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import uvicorn

from app.http_server.connections import Connections, is_loopback
from app.http_server.http_protocol import BoundedHttp
from app.http_server.tls import TlsHandshake
from app.http_server.websocket_protocol import BoundedWebSocket
from app.settings.certificate import Certificate
from tests.support.served import Served, eventually, serve_app


@dataclass
class Client:
    """One end of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)

    async def head(self) -> bytes:
        """The head of the next response; of an answer without a body it is all."""
        async with asyncio.timeout(20):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def response(self) -> bytes:
        """The next response, head and body."""
        head = await self.head()
        [length] = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
        return head + await self.reader.readexactly(int(length.split(b":")[1]))

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        received = b""
        with suppress(ConnectionError):  # reset: the server closed it with bytes of ours unread
            async with asyncio.timeout(20):
                while data := await self.reader.read(1 << 16):
                    received += data
        return received


@dataclass
class HttpServer:
    """The server; `connect` gives a client, `pass_time` is a sweep as if so many seconds had passed."""

    served: Served
    connections: Connections
    address: tuple[str, int] = ("", 0)
    accepted: int = 0
    clients: list[Client] = field(default_factory=list)

    async def connect(self, sent: bytes = b"", tls: ssl.SSLContext | None = None) -> Client:
        """A new connection that the server knows, and the first bytes of its client."""
        before = self.accepted
        client = Client(*await asyncio.open_connection(*self.address, ssl=tls))
        await eventually(lambda: self.accepted > before, "the connection is accepted")
        self.clients.append(client)
        client.send(sent)
        return client

    async def disconnect(self) -> None:
        """End all connections."""
        for connection in list(self.connections.tracked):
            connection.transport.abort()
        for client in self.clients:
            client.writer.close()
            with suppress(ConnectionError):
                await client.writer.wait_closed()
        await eventually(lambda: not self.connections.tracked, "all connections are gone")

    async def reaches(self, state: str, count: int = 1) -> None:
        """Wait until so many connections are in that state."""
        await eventually(lambda: self.count(state) == count, f"{count} are in {state}")

    def count(self, state: str) -> int:
        """Connections in that state."""
        return sum(connection.state == state for connection in self.connections.tracked)

    def pass_time(self, seconds: float) -> None:
        """End what has lasted too long in so many seconds from now."""
        self.connections.sweep(time.monotonic() + seconds)


@asynccontextmanager
async def http_server(
    limit: int = 100, shared: bool = False, certificate: Certificate | None = None
) -> AsyncIterator[HttpServer]:
    """The app on a socket; `shared`: its one client address has a share, as one of another machine has."""
    async with serve_app() as served:
        config = uvicorn.Config(served.app, log_config=None, ws=BoundedWebSocket, date_header=False)
        metrics = served.app.state.service.metrics
        connections = Connections(metrics, limit, (lambda address: False) if shared else is_loopback)
        server = HttpServer(served, connections)

        def make_http() -> BoundedHttp:
            return BoundedHttp(config, connections, {})

        def accept() -> asyncio.Protocol:
            server.accepted += 1
            if certificate is None:
                return make_http()
            return TlsHandshake(connections, certificate.context, make_http)

        listener = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
        server.address = listener.sockets[0].getsockname()
        async with listener:
            try:
                yield server
            finally:
                await server.disconnect()

"""A connection before it is encrypted: counted and bounded as the others while its TLS handshake lasts."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, cast

from app.errors import MalformedRequest
from app.http_server.connections import CLOSING_SECONDS, HEAD_SECONDS, Connections, State, Tracked
from app.http_server.refusal import refusal

HANDSHAKE = 22  # the first byte of a client that speaks TLS (RFC 8446 §5.1)


class TlsHandshake(Tracked):
    """Makes the handshake of a new connection, then hands it over to a protocol for HTTP.

    The event loop's own TLS shows a connection after its handshake only: until then nothing would count it.
    """

    def __init__(
        self, connections: Connections, context: ssl.SSLContext, make_http: Callable[[], Any]
    ) -> None:
        self.server_state = connections
        self._context = context
        self._make_http = make_http
        self._handshake: asyncio.Task[None] | None = None
        self._early = bytearray()  # what comes encrypted with the last bytes of the handshake

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        self.transport = transport
        self.client: tuple[str, int] | None = transport.get_extra_info("peername") or None
        self.server_state.tracked.add(self)
        self.address = self.server_state.share_of(self.client)
        self.enter(State.HEAD)
        self.server_state.refusal(self)  # makes room; where there is none, HTTP refuses it in words

    def data_received(self, data: bytes) -> None:
        """The first bytes of a client; then what it sent with the end of its handshake."""
        if self._handshake is not None:
            self._early += data
        elif self.state is not State.HEAD:
            return  # it has its refusal; nothing can be written any more
        elif data[0] == HANDSHAKE:
            self.transport.pause_reading()
            self._handshake = asyncio.get_running_loop().create_task(self._encrypt(data))
        else:
            error = MalformedRequest("this port speaks HTTPS; write https:// in the address")
            self.transport.write(refusal(error, self.server_state, self.client))
            self.enter(State.DISCARD)
            self.half_close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone before its handshake, or with its end."""
        self._leave()

    def shutdown(self) -> None:
        """The server ends."""
        self.transport.abort()

    def _leave(self) -> None:
        if self in self.server_state.tracked:
            self.enter(None)
            self.server_state.tracked.discard(self)

    async def _encrypt(self, hello: bytes) -> None:
        loop = asyncio.get_running_loop()
        encrypting = loop.create_task(
            loop.start_tls(
                *(self.transport, self, self._context),
                server_side=True,
                ssl_handshake_timeout=HEAD_SECONDS,
                ssl_shutdown_timeout=CLOSING_SECONDS,
            )
        )
        await asyncio.sleep(0)  # it has the transport now; its protocol is connected in the next turn
        loop.call_soon(self._feed, hello)
        encrypted: Any = None
        try:
            encrypted = await encrypting
        except OSError:
            self.transport.abort()  # the client refuses the certificate, speaks an old TLS, or is gone
        finally:
            self._leave()
        if encrypted is not None and not encrypted.is_closing():
            self._hand_over(encrypted)

    def _feed(self, hello: bytes) -> None:
        """Give the bytes that were read before to the protocol of TLS."""
        protocol = cast(asyncio.BufferedProtocol, self.transport.get_protocol())
        rest = memoryview(hello)
        while rest and not self.transport.is_closing():
            buffer = cast(memoryview, protocol.get_buffer(len(rest)))
            size = min(len(buffer), len(rest))
            buffer[:size] = rest[:size]
            protocol.buffer_updated(size)
            rest = rest[size:]

    def _hand_over(self, encrypted: Any) -> None:
        http = self._make_http()
        encrypted.set_protocol(http)
        http.connection_made(encrypted)
        if self._early:
            http.data_received(bytes(self._early))

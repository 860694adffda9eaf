"""A web socket on a connection: uvicorn's protocol with bounds on its handshake and fragments."""

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import SecurityError
from websockets.frames import CloseCode, Frame

from app.errors import HeadTooLarge, MalformedRequest, ServiceError
from app.http_server.connections import Connections, State, Tracked
from app.http_server.refusal import refusal

FRAGMENTS = 4096  # of a message: its bytes are bounded, but empty fragments have none


class BoundedWebSocket(Tracked, WebSocketsSansIOProtocol):
    """Uvicorn's web socket; every handshake is accepted or refused, and fragments are bounded."""

    _refused = False

    def __init__(self, config: Any, server_state: Connections, app_state: Any, _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.server_state = server_state

    def connection_made(self, transport: Any) -> None:
        """An HTTP connection begins a handshake."""
        super().connection_made(transport)
        self.enter(State.HANDSHAKE)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.enter(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client: the head of the handshake first."""
        if self._refused:
            return
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self._refuse(_handshake_error(self.conn.handshake_exc))

    async def send(self, message: Any) -> None:
        """A message of the app; with the first one the handshake is over."""
        await super().send(message)
        if self.state is State.HANDSHAKE and self.handshake_complete:
            self.enter(State.WEBSOCKET)

    def handle_cont(self, event: Frame) -> None:
        """One more fragment of a message."""
        if len(self.frames) >= FRAGMENTS:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"more than {FRAGMENTS} fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def _refuse(self, error: ServiceError) -> None:
        self._refused = self.handshake_complete = self.close_sent = True
        self.transport.write(refusal(error, self.server_state, self.client))
        self.half_close()
        self.enter(State.DISCARD)


def _handshake_error(error: Exception) -> ServiceError:
    if isinstance(error, SecurityError):
        return HeadTooLarge(
            f"the handshake of a web socket is too large ({error}); send at most 128 headers of 8 KB"
        )
    return MalformedRequest(f"this is no handshake of a web socket: {error.__cause__ or error}")

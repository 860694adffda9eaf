"""HTTP/1.1 on a connection: uvicorn's protocol with bounds, one response a request, and upgrades ignored."""

import asyncio
from functools import partial
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.errors import HeadTooLarge, MalformedRequest, ServiceError
from app.http_server.body_speed import Message, Receive, with_least_speed
from app.http_server.connections import Connections, State, Tracked
from app.http_server.refusal import refusal

HEAD_BYTES = 64 * 1024  # of a request's first line and headers; the parser itself has no bound
KEPT_BYTES = 64 * 1024  # a longer body that nobody read is not worth reading to keep its connection
DISCARD_BYTES = 32 * 1024 * 1024  # a body has 20 MB by default; after it its client reads the response
REASON_CHARACTERS = 100
GOODBYE_SECONDS = 0.1  # for the last bytes of TLS on an idle connection when the server ends


class BoundedHttp(Tracked, HttpToolsProtocol):
    """Uvicorn's protocol with bounds on heads, bodies that nobody reads, and connections."""

    server_state: Connections

    _head_bytes = 0
    _discarded = 0
    _refused = False  # nothing more is read from this connection
    _closes = False  # after the current request

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        super().connection_made(transport)
        self.address = self.server_state.share_of(self.client)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.enter(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client; counted where nothing else bounds them."""
        self._unset_keepalive_if_required()
        if not (self._refused or self.transport.is_closing()):
            self._parse(data)
        if self.state is State.HEAD:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self.refuse(HeadTooLarge(f"the request line and headers are larger than {HEAD_BYTES} bytes"))
        elif self.state is State.DISCARD:
            self._discarded += len(data)
            if self._discarded > DISCARD_BYTES:
                self.transport.close()

    def shutdown(self) -> None:
        """The server ends; over TLS an idle client would be waited for, which need not answer."""
        idle = not self._is_busy and not self.transport.get_write_buffer_size()
        super().shutdown()
        if idle:
            asyncio.get_running_loop().call_later(GOODBYE_SECONDS, self.transport.abort)

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self._refused:
                self._answer_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            reason = str(error)[:REASON_CHARACTERS]
            self.refuse(MalformedRequest(f"this is no HTTP/1.1 request: {reason}"))

    # upgrades

    def _should_upgrade(self) -> bool:
        """Uvicorn leaves every head with an upgrade alone; `_answer_upgrade` decides."""
        return True

    def _answer_upgrade(self, rest: bytes) -> None:
        """Hand a web socket over; ignore another upgrade, as RFC 9110 §7.8 asks, and read the body."""
        offered = [value.strip().lower() for name, value in self.headers if name == b"upgrade"]
        method = self.scope["method"]
        if method == "CONNECT":
            self.refuse(MalformedRequest("CONNECT is for proxies; send the request itself"))
        elif self._is_busy:
            self.refuse(MalformedRequest("an upgrade before the response to the request before it"))
        elif method == "GET" and offered == [b"websocket"] and self.ws_protocol_class is not None:
            self.handle_websocket_upgrade()
            self.enter(None)
        else:
            self._ignore_upgrade(rest)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse the request again, without its upgrade: the parser has no other way to get at the body."""
        first = b"%s %s HTTP/%s\r\n" % (
            self.scope["method"].encode(),
            self.url,
            self.scope["http_version"].encode(),
        )
        headers = [b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        self._parse(b"".join([first, *headers, b"\r\n", rest]))

    # callbacks of the parser

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        if self.state is not State.HEAD:
            self._begin_head()

    def on_headers_complete(self) -> None:
        """The last byte of its headers."""
        if self._refused or self.transport.is_closing():
            return
        super().on_headers_complete()
        if not self.parser.should_upgrade():
            self.enter(State.BODY)

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        if not self._refused and self.cycle is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The last byte of its body."""
        if self._refused or self.cycle is None or self.parser.should_upgrade():
            return
        super().on_message_complete()
        if self.state is State.DISCARD:
            self._end_request()
        elif self.state is State.BODY:
            self.enter(State.RESPONSE)

    def _begin_head(self) -> None:
        self._head_bytes = 0
        self.enter(State.HEAD)
        if (error := self.server_state.refusal(self)) is not None:
            self.refuse(error)

    # responses

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        super()._start_asgi_task(cycle, partial(self._run, cycle, app))

    async def _run(
        self, cycle: RequestResponseCycle, app: Any, scope: Any, receive: Receive, send: Any
    ) -> None:
        """Run the app; a connection that ends with this request is closed after the body, not in it.

        A close while the client still sends would reset the connection, and the response might be lost.
        """

        async def send_before_close(message: Message) -> None:
            starts = message["type"] == "http.response.start"
            begins = starts and cycle.more_body
            if (starts and self.server_state.ending) or (begins and _is_long(scope)):
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)
            if begins and not cycle.keep_alive:
                cycle.keep_alive = self._closes = True

        await app(scope, with_least_speed(receive), send_before_close)

    def on_response_complete(self) -> None:
        """The last byte of a response was written; its body may still arrive."""
        pipelined = bool(self.pipeline)
        super().on_response_complete()
        if pipelined or self.transport.is_closing():
            return
        if self.state is State.BODY:
            self._discard()
        elif self.state is State.RESPONSE:
            self._end_request()

    def _discard(self) -> None:
        self._discarded = 0
        self.enter(State.DISCARD)
        if self._closes:
            self.half_close()

    def _end_request(self) -> None:
        if self._closes:
            self.transport.close()
        else:
            self.enter(State.IDLE)

    # refusals

    @property
    def _is_busy(self) -> bool:
        """Whether the app works on a request of this connection."""
        return self.cycle is not None and not self.cycle.response_complete

    def refuse(self, error: ServiceError) -> None:
        """Answer with the error unless a response is under way, and end the connection."""
        self._refused = True
        answering = self._is_busy and (bool(self.pipeline) or self.cycle.response_started)
        if self._is_busy and self.state is not State.BODY:
            self.cycle.keep_alive = False  # the request before is answered, then the connection closed
            self.enter(State.RESPONSE)
        elif answering or self.state is State.DISCARD:
            self.transport.close()
        else:
            if begun := self._is_busy:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            self.transport.write(refusal(error, self.server_state, self.client, begun))
            self._closes = True
            self._discard()


def _is_long(scope: Any) -> bool:
    """Whether the body is longer than KEPT_BYTES, or says no length."""
    lengths = [int(value) for name, value in scope["headers"] if name == b"content-length"]
    return not lengths or lengths[0] > KEPT_BYTES

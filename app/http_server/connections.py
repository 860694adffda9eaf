"""The open connections of a server: their states, how long each may last, and how many there may be."""

import asyncio
import errno
import logging
import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterable
from enum import StrEnum
from ipaddress import ip_address
from typing import cast

from uvicorn.server import ServerState

from app.errors import RETRY_SECONDS, Overloaded
from app.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)


class State(StrEnum):
    """What a connection does; the values are labels of metrics."""

    HEAD = "head"  # of a request: awaited, or not complete yet
    BODY = "body"
    RESPONSE = "response"  # the request is complete, its response is not
    DISCARD = "discard"  # the response is complete, the body is not: the rest is read and thrown away
    IDLE = "idle"  # between two requests
    HANDSHAKE = "handshake"
    WEBSOCKET = "websocket"
    CLOSING = "closing"  # until the client has read the last bytes


HEAD_SECONDS = 30  # from the connection, or the first byte of a later request, to the end of the headers
KEEP_ALIVE_SECONDS = 75  # longer than the 60 s of common load balancers, so that they close connections first
DISCARD_SECONDS = 5  # for clients that write their whole body before they read the response
CLOSING_SECONDS = 5
STALL_SECONDS = 30  # in which a client must read 48 KB of its response where more is buffered

SECONDS = {
    State.HEAD: HEAD_SECONDS,
    State.IDLE: KEEP_ALIVE_SECONDS,
    State.DISCARD: DISCARD_SECONDS,
    State.HANDSHAKE: HEAD_SECONDS,
    State.CLOSING: CLOSING_SECONDS,
}
"""How long a state may last; `body_speed` bounds a body, and a request's deadline its response."""

MAX_CONNECTIONS = 4096  # of about 10 KB each, without what their requests hold
OTHER_DESCRIPTORS = 256  # of the process: files, devices, gRPC, fetched images
SHARES = 4  # an address may have this part of the connections with an unfinished head or body
BATCH = 16  # at a bound this part of the connections is closed at once: a flood costs no scan each
UNFINISHED = (State.HEAD, State.BODY)
DROPPABLE = (State.HEAD, State.IDLE, State.DISCARD)  # no request of theirs is in work
LOG_SECONDS = 10  # between two log lines about bounds


def connection_limit() -> int:
    """The bound on open connections that the file descriptors of this process allow."""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if descriptors == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(descriptors // 2, descriptors - OTHER_DESCRIPTORS))


def is_loopback(address: str) -> bool:
    """Whether the address is of this machine, where a proxy may run."""
    try:
        return ip_address(address.partition("%")[0]).is_loopback
    except ValueError:  # a Unix socket
        return True


class Tracked(asyncio.Protocol):
    """A connection with a state, and since when it has it: a base of the protocols in this folder."""

    transport: asyncio.Transport
    server_state: "Connections"
    state: State | None = None
    since = 0.0
    address = ""  # of the client; "" has no share
    stalled_since: float | None = None

    def enter(self, state: State | None) -> None:
        """Change the state; None is the end."""
        self.server_state.count_change(self.address, self.state, state)
        self.state, self.since = state, time.monotonic()

    def half_close(self) -> None:
        """Say that nothing more comes; over TLS, which has no half of a close, only the end says so."""
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def pause_writing(self) -> None:
        """The client does not read its response."""
        super().pause_writing()
        self.stalled_since = time.monotonic()

    def resume_writing(self) -> None:
        """The client has read most of what was buffered."""
        super().resume_writing()
        self.stalled_since = None

    def used_time(self, now: float) -> float:
        """The used part of the time that its state may last; above 1 it is over."""
        seconds = SECONDS.get(self.state) if self.state else None
        return (now - self.since) / seconds if seconds else 0.0


class Connections(ServerState):
    """The connections of a server and their bounds; `sweep` once a second ends what lasts too long."""

    def __init__(self, metrics: Metrics, limit: int, is_exempt: Callable[[str], bool] = is_loopback) -> None:
        """`is_exempt`: whether an address has no share, as it sends for many clients: a proxy."""
        super().__init__()
        self.metrics = metrics
        self.limit = limit
        self.ending = False  # each connection is closed after its next response, in order
        self.share = max(1, limit // SHARES)
        self._is_exempt = is_exempt
        self._unfinished: Counter[str] = Counter()  # by address
        self._closing = 0
        self._reached: Counter[str] = Counter()  # bounds since the last log line
        self._logged_at = float("-inf")

    @property
    def tracked(self) -> set[Tracked]:
        """The open connections."""
        return cast(set[Tracked], self.connections)

    def share_of(self, client: tuple[str, int] | None) -> str:
        """The address whose share a connection counts for; "" for none, as of a Unix socket."""
        return "" if client is None or self._is_exempt(client[0]) else client[0]

    def count_change(self, address: str, before: State | None, after: State | None) -> None:
        """Keep count of unfinished and closing connections."""
        self._closing += (after is State.CLOSING) - (before is State.CLOSING)
        if not address or (before in UNFINISHED) == (after in UNFINISHED):
            return
        self._unfinished[address] += 1 if after in UNFINISHED else -1
        if not self._unfinished[address]:
            del self._unfinished[address]

    def refusal(self, newcomer: Tracked) -> Overloaded | None:
        """Why a connection may not begin a request; closes older ones without a request first."""
        if len(self.tracked) - self._closing > self.limit:
            others = (one for one in self.tracked if one is not newcomer and one.state in DROPPABLE)
            if not self._drop("limit", others, self.limit):
                return Overloaded("too many connections are open; connect again later", RETRY_SECONDS)
        if self._unfinished[newcomer.address] > self.share:
            others = (one for one in self.tracked if one is not newcomer and one.state is State.HEAD)
            same = (one for one in others if one.address == newcomer.address)
            if not self._drop("share", same, self.share):
                return Overloaded("too many unfinished requests from this address", RETRY_SECONDS)
        return None

    def count_end(self, reason: str) -> None:
        """Count a connection that the server ends for a bound."""
        self.metrics.connections_closed.labels(reason=reason).inc()

    def _drop(self, bound: str, candidates: Iterable[Tracked], most: int) -> bool:
        """Close those that have used most of their time; False if there are none."""
        now = time.monotonic()
        oldest = sorted(candidates, key=lambda one: one.used_time(now), reverse=True)[: most // BATCH + 1]
        self._reached[bound] += 1
        for connection in oldest:
            self.count_end(bound)
            connection.enter(State.CLOSING)
            connection.transport.abort()
        return bool(oldest)

    def sweep(self, now: float) -> None:
        """End the connections that have used their time, and set the gauges."""
        states: Counter[State] = Counter()
        for connection in list(self.tracked):
            self._check(connection, now)
            if connection.state is not None:
                states[connection.state] += 1
        for state in State:
            self.metrics.connections.labels(state=state).set(states[state])
        self._check_descriptors()
        self._log(now)

    def _check(self, connection: Tracked, now: float) -> None:
        stalled = connection.stalled_since is not None and now - connection.stalled_since > STALL_SECONDS
        if connection.transport.is_closing() and connection.state is not State.CLOSING:
            connection.enter(State.CLOSING)
        elif stalled or (connection.state is State.CLOSING and connection.used_time(now) > 1):
            self.count_end("stalled")
            connection.transport.abort()
        elif connection.used_time(now) > 1:
            self.count_end(str(connection.state))
            connection.transport.close()
            connection.enter(State.CLOSING)

    def _check_descriptors(self) -> None:
        """Note when there is no file descriptor left: new connections are reset then, without an event."""
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self._reached["descriptors"] += 1

    def _log(self, now: float) -> None:
        if not self._reached or now - self._logged_at < LOG_SECONDS:
            return
        self._logged_at = now
        if self._reached["descriptors"]:
            logger.error("no file descriptor is left, new connections are reset; raise `ulimit -n`")
        if self._reached["limit"] or self._reached["share"]:
            logger.warning(
                "connections without a complete request are closed: the bound of %d connections (from "
                "`ulimit -n`) was reached %d times, the share of an address %d times",
                *(self.limit, self._reached["limit"], self._reached["share"]),
            )
        self._reached.clear()

"""Bounds the bytes of request bodies as they arrive, for one request and for all at a time."""

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import BodyTooLarge
from app.serving.byte_account import BodyAccounts
from app.telemetry.metrics import Metrics
from app.transport.middleware.request_context import Dialects, error_response, only_problems


class BodyLimit:
    """Limits body bytes as they arrive: `per_request` for one request, the accounts for all at a time."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        per_request: int,
        accounts: BodyAccounts,
        dialects: Dialects = only_problems,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._dialects = dialects
        self._per_request = per_request
        self._accounts = accounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection; a declared length is used only to reject a body that is too large."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _declared_length(scope) > self._per_request:
            response = error_response(_too_large(self._per_request), self._metrics, self._dialects(scope))
            await response(scope, receive, send)
            return
        body = BodyCount(self._per_request, self._accounts)
        scope.setdefault("state", {})["body"] = body

        async def counted() -> Message:
            message = await receive()
            body.add(len(message.get("body", b"")))
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            body.release()


class BodyCount:
    """The bytes that the body of one request holds, in the account of strangers until it shows a key."""

    def __init__(self, limit: int, accounts: BodyAccounts) -> None:
        self._limit = limit
        self._users = accounts.users
        self._account = accounts.strangers
        self._held = 0
        self.received = 0  # bytes in all

    def add(self, nbytes: int) -> None:
        """Count more bytes, or fewer when negative; raises BodyTooLarge or Overloaded."""
        if self._held + nbytes > self._limit:
            raise _too_large(self._limit)
        self._account.reserve(nbytes, self._held)
        self._held += nbytes
        self.received += nbytes

    def hold(self, nbytes: int) -> None:
        """Count bytes that the request reads from elsewhere, until it is over; raises Overloaded."""
        self._account.reserve(nbytes, self._held)
        self._held += nbytes

    def show_key(self) -> None:
        """Count the bytes for the users from now on; raises Overloaded where they have no room for them."""
        if self._account is not self._users:
            self._users.reserve(self._held, 0)
            self._account.release(self._held)
            self._account = self._users

    def release(self) -> None:
        """The request is over."""
        self._account.release(self._held)
        self._held = 0


def body_count(request: Request) -> BodyCount:
    """The count that BodyLimit keeps of this request's body."""
    body: BodyCount = request.state.body
    return body


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body has more than the {limit} bytes allowed; send a smaller image")


def _declared_length(scope: Scope) -> int:
    declared = Headers(scope=scope).get("content-length", "")
    return int(declared[:20]) if declared.isascii() and declared.isdigit() else 0

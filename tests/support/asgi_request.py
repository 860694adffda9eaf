"""One request on the app's own ASGI interface."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI


def asgi_scope(url: str, headers: Iterable[tuple[str, str]], **others: Any) -> dict[str, Any]:
    """The scope of a request or a web socket from this machine."""
    path, _, query = url.partition("?")
    return {
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
        "root_path": "",
        **others,
    }


class AsgiRequest:
    """One request on the app's own ASGI interface: it may send slowly, and leave whenever it likes."""

    def __init__(self, app: FastAPI, url: str, headers: dict[str, str], method: str = "POST") -> None:
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._body = b""
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.read_all = False
        scope = asgi_scope(url, headers.items(), type="http", scheme="http", method=method)
        self._task = asyncio.ensure_future(app(scope, self._receive, self._send))

    @property
    def problem(self) -> dict[str, Any]:
        """The answer, where it is a problem."""
        assert self.headers["content-type"] == "application/problem+json"
        return dict(json.loads(self._body))

    @property
    def answer(self) -> dict[str, Any]:
        """The answer, where it is JSON."""
        assert self.headers["content-type"] == "application/json"
        return dict(json.loads(self._body))

    def send(self, body: bytes, more: bool = False) -> None:
        """Send a piece of the body; `more` of it may come."""
        self._inbox.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        """Hang up."""
        self._inbox.put_nowait({"type": "http.disconnect"})

    async def answered(self) -> None:
        """Wait for the answer and the end of the request."""
        await self.ended()
        assert self.status is not None

    async def ended(self) -> None:
        """Wait until the app is done with the request."""
        await asyncio.wait_for(self._task, 20)

    async def _receive(self) -> dict[str, Any]:
        self.read_all = self._inbox.empty()
        return await self._inbox.get()

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        self._body += message.get("body", b"")

"""Responses of a service that is not there, and a client that gets them without waiting."""

import threading
from typing import Any

import httpx

from rcnn_client import Client

ANSWER = {
    "boxes": [[1.5, 2, 30, 40]],
    "labels": [2],
    "scores": [0.75],
    "names": ["disc"],
    "image": {"width": 64, "height": 48},
    "model": "fake",
    "box_format": "xyxy",
    "timings_ms": {"total": 3.5},
    "request_id": "abc",
    "a_key_of_a_later_version": 1,
}


def detected() -> httpx.Response:
    return httpx.Response(200, json=ANSWER)


def busy(retry_after: str | None, status: int = 429) -> httpx.Response:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return httpx.Response(status, headers=headers, json={"code": "overloaded", "detail": "64 requests wait"})


class Pauses(threading.Event):
    """Notes the seconds between tries in place of waiting them."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        return self.is_set()


class Scripted(Client):
    """A client that gets these responses and errors one after the other; `sent` are its requests."""

    def __init__(self, *replies: httpx.Response | Exception, url: str = "http://test", **policy: Any) -> None:
        left = list(replies)
        self.sent: list[httpx.Request] = []

        def reply(request: httpx.Request) -> httpx.Response:
            self.sent.append(request)
            following = left.pop(0)
            if isinstance(following, Exception):
                raise following
            return following

        super().__init__(url, **policy, transport=httpx.MockTransport(reply))
        self.pauses = self._closed = Pauses()

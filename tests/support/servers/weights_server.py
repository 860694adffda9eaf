"""A server on this machine that publishes a weights file, whole or with faults."""

import hashlib
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from models.zoo.download import PublishedFile

BODY = b"weights " * 500_000  # several pieces
DIGEST = hashlib.sha256(BODY).hexdigest()
NAME = f"network-{DIGEST[:8]}.pth"
Answer = Callable[[BaseHTTPRequestHandler], None]


class TolerantServer(ThreadingHTTPServer):
    """Does not print that a client hung up, as some tests are about that."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class WeightsServer:
    """Answers GET as the test registered for the path, and records the requests."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[dict[str, str]] = []
        self._http = TolerantServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def source(self, path: str, answer: Answer, sha256: str = DIGEST[:8]) -> PublishedFile:
        self.answers[path] = answer
        return PublishedFile(f"http://127.0.0.1:{self._http.server_port}{path}", NAME, sha256)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(dict(self.headers))
                server.answers[self.path](self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


def sends(body: bytes, length: int | None = None, status: int = 200) -> Answer:
    """An answer of `body`, whose Content-Length may promise more than comes."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def redirects(path: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", path)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer

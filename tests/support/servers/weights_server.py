"""A server on this machine that publishes a weights file, whole or with faults."""

import hashlib
from http.server import BaseHTTPRequestHandler

from models.zoo.download import PublishedFile
from tests.support.servers.http_server import Answer

BODY = b"weights " * 500_000  # several pieces
DIGEST = hashlib.sha256(BODY).hexdigest()
NAME = f"network-{DIGEST[:8]}.pth"


class WeightsServer:
    """Answers GET as the test registered for the path, and records the requests."""

    def __init__(self) -> None:
        self.port = 0
        self.answers: dict[str, Answer] = {}
        self.requests: list[dict[str, str]] = []

    def source(self, path: str, answer: Answer, sha256: str = DIGEST[:8]) -> PublishedFile:
        self.answers[path] = answer
        return PublishedFile(f"http://127.0.0.1:{self.port}{path}", NAME, sha256)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(dict(handler.headers))
        self.answers[handler.path](handler)


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


def resumes(body: bytes, version: str | None = '"1"', stops: tuple[int, ...] = ()) -> Answer:
    """An answer of the part asked for; the n-th response stops at byte `stops[n]` of the body."""
    stopping = iter(stops)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        start = int(handler.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
        end = next(stopping, len(body))
        handler.send_response(416 if start >= len(body) else 206 if start else 200)
        handler.send_header("Content-Length", str(max(0, len(body) - start)))
        handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if version is not None:
            handler.send_header("ETag", version)
        handler.end_headers()
        handler.wfile.write(body[start:end])

    return answer

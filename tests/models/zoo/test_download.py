"""Fetching weights, against a real server on this machine: whole and checked, or not there at all."""

import hashlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from models.zoo.download import FetchLimits, PublishedFile, WeightsError, fetch, sha256_of

BODY = b"weights " * 500_000  # several pieces
DIGEST = hashlib.sha256(BODY).hexdigest()
NAME = f"network-{DIGEST[:8]}.pth"
QUICK = FetchLimits(connect_seconds=0.3, read_seconds=0.3)

Answer = Callable[[BaseHTTPRequestHandler], None]


class TolerantServer(ThreadingHTTPServer):
    """A client that hangs up is what some tests are about, not a fault to print."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class WeightsServer:
    """Answers GET with what the test registered for the path, and remembers the requests."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[dict[str, str]] = []
        self.finish = threading.Event()
        self._http = TolerantServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def source(self, path: str, answer: Answer, sha256: str = DIGEST[:8]) -> PublishedFile:
        self.answers[path] = answer
        return PublishedFile(f"http://127.0.0.1:{self._http.server_port}{path}", NAME, sha256)

    def close(self) -> None:
        self.finish.set()
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


@pytest.fixture
def server() -> Iterator[WeightsServer]:
    server = WeightsServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


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


def test_a_published_file_is_fetched_once(server: WeightsServer, tmp_path: Path) -> None:
    source = server.source("/w", sends(BODY))
    cache = tmp_path / "a" / "cache"
    assert fetch(source, cache) == cache / NAME
    assert fetch(source, cache).read_bytes() == BODY
    assert [path.name for path in cache.iterdir()] == [NAME]
    assert len(server.requests) == 1
    assert server.requests[0]["Accept-Encoding"] == "identity"


def test_progress_is_logged(server: WeightsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "models.zoo.download")
    source = server.source("/w", sends(BODY))
    fetch(source, tmp_path)
    assert f"fetching {source.url} into {tmp_path / NAME}" in caplog.messages
    assert "fetched 100 % (4 of 4 MB)" in caplog.messages


def test_redirects_are_followed(server: WeightsServer, tmp_path: Path) -> None:
    server.source("/there", sends(BODY))
    assert fetch(server.source("/here", redirects("/there")), tmp_path).read_bytes() == BODY


def test_others_may_read_the_fetched_file(server: WeightsServer, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    path = fetch(server.source("/w", sends(BODY)), tmp_path)
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def chunked_and_cut(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"%x\r\n%b\r\n" % (len(BODY), BODY))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(sends(BODY[:-1], length=len(BODY)), "peer closed connection", id="cut off"),
        pytest.param(chunked_and_cut, "peer closed connection", id="cut off, chunked"),
        pytest.param(sends(BODY[:-1]), f"not {DIGEST[:8]}", id="short but consistent"),
        pytest.param(sends(b""), f"not {DIGEST[:8]}", id="empty"),
        pytest.param(sends(BODY[:-1] + b"?"), f"not {DIGEST[:8]}", id="another file"),
        pytest.param(sends(b"gone", status=404), "404 Not Found", id="404"),
        pytest.param(sends(BODY, status=500), "500 Internal Server Error", id="500"),
        pytest.param(redirects("/w"), "redirects", id="redirects for ever"),
        pytest.param(redirects("ftp://127.0.0.1/w"), "ftp://", id="redirect to another protocol"),
    ],
)
def test_what_is_not_the_whole_file_leaves_nothing(
    server: WeightsServer, tmp_path: Path, answer: Answer, reason: str
) -> None:
    source = server.source("/w", answer)
    with pytest.raises(WeightsError) as refusal:
        fetch(source, tmp_path)
    for fragment in (source.url, reason, str(tmp_path / NAME), "RCNN_MODEL=shapes"):
        assert fragment in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_the_whole_hash_is_checked_where_the_card_gives_it(server: WeightsServer, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="its SHA-256 is"):
        fetch(server.source("/w", sends(BODY), sha256=DIGEST[:-1] + "x"), tmp_path)
    assert fetch(server.source("/w", sends(BODY), sha256=DIGEST), tmp_path).is_file()


def test_a_body_that_stalls_is_given_up(server: WeightsServer, tmp_path: Path) -> None:
    def stalls(handler: BaseHTTPRequestHandler) -> None:
        sends(BODY[:1000], length=len(BODY))(handler)
        server.finish.wait(30)

    started = time.monotonic()
    with pytest.raises(WeightsError, match="timed out"):
        fetch(server.source("/w", stalls), tmp_path, FetchLimits(read_seconds=0.3))
    assert time.monotonic() - started < 5
    assert list(tmp_path.iterdir()) == []


def test_a_body_without_end_is_given_up(server: WeightsServer, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="larger than 1000 bytes"):
        fetch(server.source("/w", sends(BODY)), tmp_path, FetchLimits(max_bytes=1000))
    assert list(tmp_path.iterdir()) == []


def test_a_refused_connection_fails_at_once(closed_port: int, tmp_path: Path) -> None:
    source = PublishedFile(f"http://127.0.0.1:{closed_port}/w", NAME, DIGEST[:8])
    with pytest.raises(WeightsError, match="Connection refused"):
        fetch(source, tmp_path)


def test_a_host_that_never_answers_costs_the_connect_time_alone(tmp_path: Path) -> None:
    # A listener whose queue is full drops the next handshake, as a firewall does.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(address)
        started = time.monotonic()
        with pytest.raises(WeightsError, match=r"no connection within 0\.3 s|timed out"):
            fetch(PublishedFile(f"http://127.0.0.1:{address[1]}/w", NAME, DIGEST[:8]), tmp_path, QUICK)
        assert time.monotonic() - started < 5
        for client in waiting:
            client.close()
    assert list(tmp_path.iterdir()) == []


def test_a_slow_name_look_up_costs_the_connect_time_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, released = threading.Event(), threading.Event()

    def look_up(*_arguments: object, **_options: object) -> list[object]:
        asked.set()
        released.wait(30)
        raise socket.gaierror("no name server answers")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    started = time.monotonic()
    with pytest.raises(WeightsError, match=r"no connection within 0\.3 s"):
        fetch(PublishedFile("http://weights.invalid/w", NAME, DIGEST[:8]), tmp_path, QUICK)
    assert time.monotonic() - started < 5
    assert asked.is_set()
    released.set()


def test_an_answer_that_comes_too_late_is_hung_up_on(
    server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, hung_up = threading.Event(), threading.Event()
    look_up = socket.getaddrinfo

    def slow_look_up(*arguments: Any, **options: Any) -> Any:
        released.wait(30)
        return look_up(*arguments, **options)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        try:
            sends(BODY[:1000], length=len(BODY))(handler)
            gone = handler.connection.recv(1) == b""
        except ConnectionError:  # it hung up before it read what it had got
            gone = True
        if gone:
            hung_up.set()

    monkeypatch.setattr(socket, "getaddrinfo", slow_look_up)
    with pytest.raises(WeightsError, match="no connection within"):
        fetch(server.source("/w", answer), tmp_path, QUICK)
    released.set()
    assert hung_up.wait(30)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("proxy", ["nonsense://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_proxy_settings_of_no_use_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(WeightsError, match="Check the network and proxy"):
        fetch(PublishedFile("http://weights.invalid/w", NAME, DIGEST[:8]), tmp_path, QUICK)


def test_a_damaged_cached_file_is_fetched_again(server: WeightsServer, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(BODY[:100])
    assert fetch(server.source("/w", sends(BODY)), tmp_path).read_bytes() == BODY


def test_a_damaged_cached_file_never_counts(closed_port: int, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(BODY[:100])
    with pytest.raises(WeightsError, match="Connection refused"):
        fetch(PublishedFile(f"http://127.0.0.1:{closed_port}/w", NAME, DIGEST[:8]), tmp_path)


def test_a_cache_that_cannot_be_written_is_named(server: WeightsServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match=r"Not a directory; set RCNN_CACHE_DIR to a folder"):
        fetch(server.source("/w", sends(BODY)), tmp_path / "file" / "cache")
    with pytest.raises(WeightsError, match=r"File exists; set RCNN_CACHE_DIR to a folder"):
        fetch(server.source("/w", sends(BODY)), tmp_path / "file")
    assert server.requests == []


def test_what_killed_processes_left_is_removed_and_what_others_write_is_not(
    server: WeightsServer, tmp_path: Path
) -> None:
    left, living, foreign = (tmp_path / f for f in (f"{NAME}.1.partial", f"{NAME}.2.partial", "x.partial"))
    for path in (left, living, foreign):
        path.write_bytes(BODY)
    for path in (left, foreign):
        os.utime(path, (0, 0))
    fetch(server.source("/w", sends(BODY)), tmp_path)
    assert set(tmp_path.iterdir()) == {living, foreign, tmp_path / NAME}


def test_two_processes_may_fetch_at_once(server: WeightsServer, tmp_path: Path) -> None:
    both_are_half_done = threading.Barrier(2)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        sends(BODY[:1000], length=len(BODY))(handler)
        both_are_half_done.wait(60)
        handler.wfile.write(BODY[1000:])

    source = server.source("/w", answer)
    code = (
        "from pathlib import Path; from models.zoo.download import PublishedFile, fetch; "
        f"fetch({source!r}, Path({str(tmp_path)!r}))"
    )
    processes = [subprocess.Popen([sys.executable, "-W", "error", "-c", code]) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert sha256_of(tmp_path / NAME) == DIGEST

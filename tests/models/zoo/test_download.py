"""Fetching weights, against a real server on this machine: whole and checked, or not there at all."""

import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.zoo.download import Downloads, PublishedFile, WeightsError, fetch, sha256_of
from models.zoo.transports import FetchLimits
from tests.support.process import closed_port
from tests.support.servers.http_server import Answer
from tests.support.servers.weights_server import BODY, DIGEST, NAME, WeightsServer, redirects, sends

QUICK = Downloads(limits=FetchLimits(connect_seconds=0.3, read_seconds=0.3))


def files(folder: Path) -> list[str]:
    """Names in a cache folder, without parts that may be continued."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".partial")


def test_a_published_file_is_fetched_once_and_progress_is_logged(
    server: WeightsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "models.zoo.download")
    source = server.source("/w", sends(BODY))
    cache = tmp_path / "a" / "cache"
    assert fetch(source, cache) == cache / NAME
    assert fetch(source, cache).read_bytes() == BODY
    assert [path.name for path in cache.iterdir()] == [NAME]
    assert len(server.requests) == 1
    assert server.requests[0]["Accept-Encoding"] == "identity"
    assert f"fetching {source.url} into {cache / NAME}" in caplog.messages
    assert "fetched 100 % (4 of 4 MB)" in caplog.messages


def test_redirects_are_followed_and_others_may_read_the_file(server: WeightsServer, tmp_path: Path) -> None:
    server.source("/there", sends(BODY))
    path = fetch(server.source("/here", redirects("/there")), tmp_path)
    assert path.read_bytes() == BODY
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def chunked_and_cut_off(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"%x\r\n%b\r\n" % (1000, BODY[:1000]))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(sends(BODY[:-1], length=len(BODY)), "peer closed connection", id="cut off"),
        pytest.param(chunked_and_cut_off, "peer closed connection", id="cut off, chunked"),
        pytest.param(sends(BODY[:-1]), f"not {DIGEST[:8]}", id="short but consistent"),
        pytest.param(sends(b""), f"not {DIGEST[:8]}", id="empty"),
        pytest.param(sends(BODY[:-1] + b"?"), f"not {DIGEST[:8]}", id="another file"),
        pytest.param(sends(b"gone", status=404), "404 Not Found", id="404"),
        pytest.param(sends(BODY, status=500), "500 Internal Server Error", id="500"),
        pytest.param(redirects("/w"), "redirects", id="redirects for ever"),
        pytest.param(redirects("ftp://127.0.0.1/w"), "ftp://", id="redirect to another protocol"),
    ],
)
def test_a_failed_download_leaves_no_file(
    server: WeightsServer, tmp_path: Path, answer: Answer, reason: str
) -> None:
    source = server.source("/w", answer)
    with pytest.raises(WeightsError) as refusal:
        fetch(source, tmp_path)
    for fragment in (source.url, reason, str(tmp_path / NAME), "RCNN_MODEL=shapes"):
        assert fragment in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert files(tmp_path) == []


def test_the_whole_hash_is_checked_where_the_card_gives_it(server: WeightsServer, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="its SHA-256 is"):
        fetch(server.source("/w", sends(BODY), sha256=DIGEST[:-1] + "x"), tmp_path)
    assert fetch(server.source("/w", sends(BODY), sha256=DIGEST), tmp_path).is_file()


def stalls(handler: BaseHTTPRequestHandler) -> None:
    sends(BODY[:1000], length=len(BODY))(handler)
    handler.connection.recv(1)  # until the client hangs up


@pytest.mark.parametrize(
    ("answer", "limits", "reason"),
    [
        pytest.param(stalls, FetchLimits(read_seconds=0.3), "timed out", id="stalls"),
        pytest.param(sends(BODY), FetchLimits(max_bytes=1000), "larger than 1000 bytes", id="without end"),
        pytest.param(sends(BODY), FetchLimits(total_seconds=0), "took longer than 0 s", id="slow"),
    ],
)
def test_a_body_beyond_the_limits_is_given_up(
    server: WeightsServer, tmp_path: Path, answer: Answer, limits: FetchLimits, reason: str
) -> None:
    started = time.monotonic()
    with pytest.raises(WeightsError, match=reason):
        fetch(server.source("/w", answer), tmp_path, Downloads(limits=limits))
    assert time.monotonic() - started < 5
    assert files(tmp_path) == []


def test_an_unresponsive_host_costs_only_the_connect_time(tmp_path: Path) -> None:
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
    assert files(tmp_path) == []


def test_a_slow_name_look_up_costs_only_the_connect_time(
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


def test_a_late_connection_is_closed(
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
    assert files(tmp_path) == []


@pytest.mark.parametrize("proxy", ["nonsense://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_unusable_proxy_settings_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(WeightsError, match="Check the network and proxy"):
        fetch(PublishedFile("http://weights.invalid/w", NAME, DIGEST[:8]), tmp_path, QUICK)


def test_a_damaged_cached_file_is_fetched_again(server: WeightsServer, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(BODY[:100])
    with pytest.raises(WeightsError, match="Connection refused"):
        fetch(PublishedFile(f"http://127.0.0.1:{closed_port()}/w", NAME, DIGEST[:8]), tmp_path)
    assert fetch(server.source("/w", sends(BODY)), tmp_path).read_bytes() == BODY


def test_a_cache_that_cannot_be_written_is_named(server: WeightsServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match=r"Not a directory; set RCNN_CACHE_DIR to a writable folder"):
        fetch(server.source("/w", sends(BODY)), tmp_path / "file" / "cache")
    with pytest.raises(WeightsError, match=r"File exists; set RCNN_CACHE_DIR to a writable folder"):
        fetch(server.source("/w", sends(BODY)), tmp_path / "file")
    assert server.requests == []


def test_two_that_start_at_once_download_once(
    server: WeightsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "models.zoo.download")
    source = server.source("/w", lambda handler: answer(handler))
    waits = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        sends(BODY[:1000], length=len(BODY))(handler)
        waits.wait(60)
        handler.wfile.write(BODY[1000:])

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "another process is fetching" in record.getMessage():
                waits.set()

    told, log = Told(), logging.getLogger("models.zoo.download")
    log.addHandler(told)
    with ThreadPoolExecutor(2) as threads:
        assert set(threads.map(lambda _: fetch(source, tmp_path), range(2))) == {tmp_path / NAME}
    log.removeHandler(told)
    assert len(server.requests) == 1
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert sha256_of(tmp_path / NAME) == DIGEST


def test_a_disk_without_room_is_named_before_it_is_filled(
    server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=1_000_000))
    with pytest.raises(
        WeightsError, match=r"No space left on device: 4 MB are needed, 1 MB are free; set RCNN"
    ):
        fetch(server.source("/w", sends(BODY)), tmp_path)
    assert files(tmp_path) == []

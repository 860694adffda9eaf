"""Reading a camera: what FFmpeg may open, what it may not, and what its errors say."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from models.images.control import UNCONTROLLED
from models.images.decoder import ImageError, Limits, OversizedImage
from models.images.video.camera import LiveFrame, SourceLost, read_live
from tests.support.data.moving import GREYS, grey, video
from tests.support.process import closed_port
from tests.support.servers.http_server import http_server

LIMITS = Limits(1_000_000)


@contextmanager
def answering(body: bytes, status: int = 200, **headers: str) -> Iterator[tuple[str, list[str]]]:
    """A server with one answer: its address, and the paths that were asked for."""
    paths: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        paths.append(handler.path)
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    with http_server(answer) as port:
        yield f"http://127.0.0.1:{port}", paths


def frames(address: str, limits: Limits = LIMITS) -> list[LiveFrame]:
    return list(read_live(address, limits))


def test_the_frames_of_an_address_and_of_a_file(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(video())
    with answering(video("mpegts", "mpeg2video")) as (url, _):
        live = frames(url)
    shown = frames(str(film))
    for found in (live, shown):
        assert [grey(frame.pixels(UNCONTROLLED)) for frame in found] == list(GREYS)
    assert [frame.due for frame in live] == [None] * 5
    assert [round(frame.due or 0, 1) for frame in shown] == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_no_redirect_no_playlist_and_no_proxy_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(video()) as (elsewhere, paths):
        monkeypatch.setenv("http_proxy", elsewhere)
        playlist = f"#EXTM3U\n#EXTINF:1,\n{elsewhere}/a.ts\n".encode()
        concat = f"ffconcat version 1.0\nfile {elsewhere}/a.mp4\n".encode()
        for body, status, headers in (
            (b"", 302, {"Location": f"{elsewhere}/film.mp4"}),
            (playlist, 200, {"Content-Type": "application/vnd.apple.mpegurl"}),
            (concat, 200, {}),
        ):
            with answering(body, status, **headers) as (url, asked), pytest.raises(ImageError):
                frames(f"{url}/live.m3u8")
            assert asked
        assert paths == []


def test_what_cannot_be_opened_says_why_without_the_password(tmp_path: Path) -> None:
    with answering(b"", 401) as (url, _):
        refused = url.replace("://", "://user:pass-word@")
        port = closed_port()
        for address, reason in (
            (refused, "401"),
            (f"rtsp://user:pass-word@127.0.0.1:{port}/live", "refused"),
            (str(tmp_path), "no such file"),
        ):
            with pytest.raises(SourceLost, match=reason) as lost:
                frames(address)
            assert "pass-word" not in str(lost.value)
            assert lost.value.__cause__ is None


def test_a_frame_that_is_too_large_is_not_decoded(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(video())
    with pytest.raises(OversizedImage):
        frames(str(film), Limits(64 * 48 - 1))

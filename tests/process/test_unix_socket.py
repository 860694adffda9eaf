"""RCNN_UDS: the server on a Unix socket, as a proxy on the same machine uses it."""

import socket
from pathlib import Path

import httpx
import pytest

from app.http_server.sockets import bind_unix
from tests.support.fakes import picture
from tests.support.process import Program


def test_a_unix_socket_takes_the_place_of_the_port(start: type[Program], tmp_path: Path) -> None:
    path = tmp_path / "rcnn.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()  # its file stays
    program = start(uds=str(path), root_path="/rcnn")
    program.logged(f"listening on unix:{path}")
    program.logged("ready")
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, base_url="http://detect.example.org", timeout=30) as client:
        assert client.get("/health").status_code == 200
        answer = client.post("/rcnn/detect", files={"image": picture()})
        assert answer.json()["names"]
        with pytest.raises(OSError, match="choose another RCNN_UDS"):
            bind_unix(path)
        assert client.get("/health").status_code == 200  # a second server leaves the first one alone
    program.terminate()
    assert program.ended() == 0
    assert not path.exists()

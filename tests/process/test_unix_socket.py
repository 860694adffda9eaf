"""RCNN_UDS: the server on a Unix socket, as a proxy on the same machine uses it."""

import socket
from pathlib import Path

import httpx
import pytest

from app.http_server.sockets import Listener, bind_unix
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


def test_a_server_whose_socket_was_replaced_leaves_the_new_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "rcnn.sock"
    first = Listener("", 0, path)  # it loads: nothing listens yet
    second = Listener("", 0, path)
    second.open()
    with pytest.raises(OSError, match=f"cannot listen on unix:{path}: another server has replaced it"):
        first.open()
    first.close()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    second.close()
    assert not path.exists()


def test_a_server_whose_socket_was_removed_says_so(tmp_path: Path) -> None:
    listener = Listener("", 0, tmp_path / "rcnn.sock")
    (tmp_path / "rcnn.sock").unlink()
    with pytest.raises(OSError, match="or it is removed"):
        listener.open()
    listener.close()

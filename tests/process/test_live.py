"""WS /detect/live on the real server: its bounds on messages, its end, and how it refuses."""

import json
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect

from app.http_server.websocket_protocol import FRAGMENTS
from tests.support.fakes import picture
from tests.support.process import Program


def opened(program: Program, query: str = "", **options: Any) -> ClientConnection:
    url = f"ws://127.0.0.1:{program.port}/detect/live{query}"
    return connect(url, proxy=None, max_size=None, **options)


def test_a_client_of_the_real_server(program: Program) -> None:
    with opened(program, "?score_threshold=0.9") as socket:
        for number in range(3):
            socket.send(picture())
            answer = json.loads(socket.recv(20))
            assert (answer["frame"], answer["dropped"], answer["names"]) == (number, 0, ["Square"])
        socket.send('{"score_threshold": 0.5}')
        assert json.loads(socket.recv(20))["options"]["score_threshold"] == 0.5
    program.logged(r"WS /detect/live 101 ")


def test_a_frame_larger_than_a_body_may_be_closes_it(program: Program) -> None:
    with opened(program) as socket:
        socket.send(bytes(20_001))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


def test_the_fragments_of_a_message_are_bounded(program: Program) -> None:
    with opened(program) as socket:
        empty = Frame(Opcode.CONT, b"", fin=False).serialize(mask=True)
        socket.socket.sendall(Frame(Opcode.BINARY, b"", fin=False).serialize(mask=True) + empty * FRAGMENTS)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


def test_a_refusal_is_a_problem(program: Program) -> None:
    for query, headers, status in (
        ("?nonsense=1", {}, 422),
        ("", {"Origin": "https://evil.example"}, 403),
    ):
        with pytest.raises(InvalidStatus) as refused, opened(program, query, additional_headers=headers):
            pass
        response = refused.value.response
        assert response.status_code == status
        problem = json.loads(response.body)
        assert (problem["status"], problem["request_id"]) == (status, response.headers["X-Request-ID"])
        assert response.headers["Content-Type"] == "application/problem+json"


def test_the_end_of_the_server_closes_with_1012(start: type[Program]) -> None:
    program = start("--seconds", "0.2")
    program.logged("ready")
    with opened(program) as idle, opened(program) as busy:
        busy.send(picture())
        busy.recv(20)
        busy.send(picture())
        program.terminate()
        for socket in (idle, busy):
            with suppress(ConnectionClosed):
                for _ in socket:
                    pass  # the answer to what was accepted, and the problem of what was not
            assert socket.close_code == 1012
    assert program.ended() == 0
    assert "Traceback" not in program.log

"""A stream on the real server: lines of JSON while it runs, and an end within the drain."""

import json
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx

from tests.support.process import Program
from tests.support.servers.cameras import ADMIN, JPEG, PART
from tests.support.servers.http_server import http_server


def motion_jpeg(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
    handler.end_headers()
    while True:  # until the reader hangs up
        handler.wfile.write(PART % (len(JPEG), JPEG))
        time.sleep(0.02)  # between pictures


def test_a_signal_ends_the_streams_and_their_clients(start: Callable[..., Program], tmp_path: Path) -> None:
    with http_server(motion_jpeg) as port:
        program = start(admin_keys="chief", stream_addresses=f"http://127.0.0.1:{port},{tmp_path}")
        program.logged("ready")
        gate = {"name": "gate", "source": f"http://user:pass-word@127.0.0.1:{port}/live"}
        for stream in (gate, {"name": "away", "source": f"{tmp_path}/none.mp4"}):
            assert program.client.post("/streams", json=stream, headers=ADMIN).status_code == 201
        with httpx.stream(
            "GET", f"http://127.0.0.1:{program.port}/streams/gate/detections", headers=ADMIN, timeout=30
        ) as response:
            lines = map(json.loads, response.iter_lines())
            assert next(line for line in lines if "names" in line)["names"] == ["Square", "disc"]
            program.logged("the stream away is waiting")
            program.terminate()
            *_, last = lines
        assert last == {"stream": "gate", "state": "ended", "reason": "the service is stopping"}
        assert program.ended() == 0
        assert "Traceback" not in program.log
        assert "pass-word" not in program.log

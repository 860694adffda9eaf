"""The process from start to end, on a real socket: readiness, drain, exit codes, clients that hang up."""

import json
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.fakes import picture
from tests.support.process import Program

Start = Callable[..., Program]
AS_PNG = {"Content-Type": "image/png"}


def detect(program: Program, image: bytes = b"") -> httpx.Response:
    return program.client.post("/detect", content=image or picture(), headers=AS_PNG)


def in_flight(program: Program) -> int:
    return int(metric(program, "rcnn_in_flight"))


def metric(program: Program, series: str) -> float:
    text = program.client.get("/metrics").text
    sample = re.search(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
    return float(sample[1]) if sample else 0.0


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll over HTTP until the condition holds."""
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up, f"waited in vain until {what}"


def test_the_program_answers_at_once_and_is_ready_later(start: Start) -> None:
    program = start("--loading")
    assert program.client.get("/health/live").status_code == 200
    assert program.client.get("/health/ready").json()["status"] == "loading"
    assert detect(program).json()["code"] == "loading"
    program.terminate()
    assert program.ended(10) == 0  # although the model still loads, which nothing can interrupt


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    """A program that several tests use; it ends without an error."""
    program = Program("--seconds", "0.05", log_format="json", decode_threads="4", max_batch="8")
    program.logged("ready")
    yield program
    program.terminate()
    assert program.ended() == 0
    assert "stopped" in program.log
    assert "Traceback" not in program.log
    program.close()


def test_the_program_logs_when_it_is_ready_and_what_it_serves(program: Program) -> None:
    seconds = program.logged(r"ready (\d+\.\d) s after the start of the process: fake on cpu")[1]
    assert 0 < float(seconds) < 30
    response = detect(program)
    assert (response.status_code, response.json()["labels"]) == (200, [1, 2])
    assert "server" not in response.headers


def test_the_log_is_json_lines(program: Program) -> None:
    response = program.client.get("/labels", headers={"X-Request-ID": "mine"})
    program.logged('"route": "/labels"')
    lines = [json.loads(line) for line in program.log.splitlines()]
    [access] = [line for line in lines if line["logger"] == "app.access" and line.get("route") == "/labels"]
    assert (access["request_id"], access["status"], access["method"]) == ("mine", response.status_code, "GET")


def test_connections_are_kept_for_the_next_request(program: Program) -> None:
    ours = set()
    for _ in range(3):
        assert detect(program).status_code == 200
        with program.client.stream("GET", "/health/live") as response:
            ours.add(response.extensions["network_stream"].get_extra_info("client_addr"))
            response.read()
    assert len(ours) == 1


def test_many_clients_are_served_at_once(program: Program) -> None:
    barrier = threading.Barrier(24)

    def at_once(index: int) -> int:
        barrier.wait(30)
        return int(detect(program, picture(50 + index, 40 + index)).json()["image"]["width"])

    with ThreadPoolExecutor(24) as pool:
        assert sorted(pool.map(at_once, range(24))) == [50 + index for index in range(24)]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_loses_no_accepted_request(start: Start, sent: signal.Signals) -> None:
    """Some are on the device at the signal, some in the queue, some not even decoded."""
    program = start("--seconds", "0.2", "--decode-seconds", "0.15", max_batch="1", decode_threads="1")
    program.logged("ready")
    with ThreadPoolExecutor(8) as pool:
        requests = [pool.submit(detect, program, picture(50 + index, 40)) for index in range(8)]
        until(lambda: in_flight(program) == 8, "all are accepted")
        program.process.send_signal(sent)
        answers = [request.result() for request in requests]
    assert [answer.status_code for answer in answers] == [200] * 8
    assert [answer.json()["image"]["width"] for answer in answers] == [50 + index for index in range(8)]
    assert program.ended() == 0
    assert "Traceback" not in program.log


def test_a_stopping_program_still_answers_and_refuses_new_work(start: Start) -> None:
    program = start("--seconds", "1.5", max_batch="1")
    program.logged("ready")
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(detect, program)
        until(lambda: in_flight(program) == 1, "it is accepted")
        program.terminate()
        program.logged("stopping")
        refused = detect(program)
        ready = program.client.get("/health/ready")
        assert accepted.result().status_code == 200
    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    assert int(refused.headers["retry-after"]) >= 1
    assert (ready.status_code, ready.json()["status"]) == (503, "draining")
    assert program.ended() == 0


def test_work_that_outlasts_the_drain_is_refused_and_the_program_ends(start: Start) -> None:
    program = start("--seconds", "20", max_batch="1", drain_seconds="0.3")
    program.logged("ready")
    with ThreadPoolExecutor(2) as pool:
        requests = [pool.submit(detect, program) for _ in range(2)]
        until(lambda: in_flight(program) == 2, "both are accepted")
        program.terminate()
        answers = [request.result() for request in requests]
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "draining")}
    assert program.ended(10) == 0


def test_a_second_signal_stops_at_once_and_refuses_what_is_in_work(start: Start) -> None:
    program = start("--seconds", "20", max_batch="1")
    program.logged("ready")
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(detect, program)
        until(lambda: in_flight(program) == 1, "it is accepted")
        program.terminate()
        program.logged("stopping")
        program.terminate()
        assert program.ended(10) == 1
        refused = request.result()
    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    assert int(refused.headers["retry-after"]) >= 1
    assert "Traceback" not in program.log


def test_a_model_that_cannot_be_loaded_ends_the_program(start: Start) -> None:
    program = start("--unloadable")
    assert program.ended() == 1
    assert "the model cannot be loaded: no such card" in program.log
    assert "Traceback" not in program.log


@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_a_program_whose_devices_are_all_dead_answers_what_it_has_and_exits_with_1(
    start: Start, devices: str
) -> None:
    """An orchestrator starts a new process, whose CUDA context is a new one too."""
    program = start("--dying", "--seconds", "0.1", device=devices, max_batch="2")
    program.logged("ready")
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda index: detect(program, picture(50 + index, 40)), range(6)))
    assert {answer.status_code for answer in answers} <= {500, 503}
    assert program.ended() == 1
    program.logged("no device works any more, and none will in this process: it exits with 1")


def test_a_port_in_use_ends_the_program_with_advice(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        program = start(port=str(listener.getsockname()[1]))
        assert program.ended() == 1
    assert "RCNN_PORT" in program.log
    assert "Traceback" not in program.log


def test_a_client_that_hangs_up_in_the_queue_never_reaches_the_detector(start: Start) -> None:
    program = start("--seconds", "2", max_batch="1", log_level="debug")
    program.logged("ready")
    image = picture()
    request = (
        b"POST /detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
        % len(image)
    )
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(detect, program)
        until(lambda: in_flight(program) == 1, "the first is accepted")
        with socket.create_connection(("127.0.0.1", program.port), timeout=30) as second:
            second.sendall(request + image)
            until(lambda: in_flight(program) == 2, "the second is accepted")
        until(lambda: metric(program, "rcnn_cancelled_total") == 1, "the second is counted as cancelled")
        assert first.result().status_code == 200
    assert metric(program, 'rcnn_batch_size_sum{model="fake"}') == 1
    assert metric(program, 'rcnn_requests_total{route="/detect",status="499"}') == 1
    program.terminate()
    assert program.ended() == 0

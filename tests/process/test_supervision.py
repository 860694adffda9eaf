"""How balancers and systemd see the program: when its port opens, how it leaves, what it says of itself."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from app.main import LAST_CALLS_SECONDS
from app.server import LAST_ANSWERS_SECONDS, Server, bind_listener, uvicorn_config
from app.settings.settings import Settings
from tests.process.test_lifecycle import Start, detect, until
from tests.support.process import closed_port
from tests.support.served import ROOT, serve_app


def unit_text() -> str:
    """The unit of docs/systemd.md."""
    found = re.search(r"```ini\n(.*?)```", (ROOT / "docs/systemd.md").read_text(), re.DOTALL)
    assert found
    return found[1]


def test_the_unit_gives_the_service_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line.partition("=") for line in unit_text().splitlines()]
    values = {name: value for name, _, value in lines}
    assert (values["Type"], values["ExecStart"].split("/")[-1]) == ("notify", "rcnn serve")
    variables = " ".join(value for name, _, value in lines if name == "Environment")
    for variable in variables.replace("%i", "8001").split():
        monkeypatch.setenv(*variable.split("=", 1))
    settings = Settings()
    assert settings.listen == "ready"
    last = LAST_ANSWERS_SECONDS + LAST_CALLS_SECONDS
    assert float(values["TimeoutStopSec"]) > settings.linger_seconds + settings.drain_seconds + last


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs the program systemd-analyze")
def test_systemd_knows_every_line_of_the_unit(tmp_path: Path) -> None:
    file = tmp_path / "rcnn@8001.service"
    file.write_text(unit_text().replace("/opt/rcnn/bin/rcnn serve", "/bin/true").replace("User=rcnn\n", ""))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(file)], capture_output=True, text=True, timeout=60
    )
    assert [line for line in done.stderr.splitlines() if file.name in line] == []


class Systemd:
    """The socket that a unit with Type=notify is told."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(30)

    def fill(self) -> None:
        """Fill the queue, as a supervisor that is busy lets it become."""
        with suppress(BlockingIOError):
            while True:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                    sender.setblocking(False)
                    sender.sendto(b"OTHER=1", self._socket.getsockname())

    def told(self) -> str:
        """The next message."""
        return self._socket.recv(1000).decode()

    def told_in(self, state: str) -> list[str]:
        """The messages up to that one."""
        messages, give_up = [self.told()], time.monotonic() + 30
        while messages[-1] != state:
            assert time.monotonic() < give_up, f"waited in vain for {state}"
            messages.append(self.told())
        return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    """It starts the programs of this test, with a watchdog that wants to hear from them every 3 s."""
    path = tmp_path / "notify"
    supervisor = Systemd(path)
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    yield supervisor
    supervisor.close()


def test_systemd_hears_of_start_life_and_end(start: Start, systemd: Systemd) -> None:
    program = start("--loading")
    assert [systemd.told() for _ in range(2)] == ["WATCHDOG=1"] * 2  # not ready yet
    program.process.send_signal(signal.SIGUSR1)
    systemd.told_in("READY=1")
    assert program.client.get("/health/ready").status_code == 200
    assert systemd.told() == "WATCHDOG=1"
    program.terminate()
    assert set(systemd.told_in("STOPPING=1")[:-1]) <= {"WATCHDOG=1"}
    assert program.ended() == 0


def test_what_a_full_queue_did_not_take_is_sent_again(start: Start, systemd: Systemd) -> None:
    systemd.fill()
    program = start(linger_seconds="100")
    program.logged("READY=1 was not sent")
    systemd.told_in("READY=1")
    systemd.fill()
    program.terminate()
    program.logged("STOPPING=1 was not sent")
    systemd.told_in("STOPPING=1")
    program.terminate()
    assert program.ended() == 1
    assert program.log.count("READY=1 was not sent") == 1


def test_a_watchdog_of_another_process_and_no_socket_are_no_fault(
    start: Start, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    first = start()
    assert systemd.told() == "READY=1"
    monkeypatch.setenv("NOTIFY_SOCKET", "/dev/null/notify")
    second = start()
    second.logged("NOTIFY_SOCKET /dev/null/notify: READY=1 was not sent")
    for program in (first, second):
        program.terminate()
        assert program.ended() == 0


def refuses(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


def test_the_ports_open_when_the_service_is_ready(start: Start) -> None:
    port, grpc_port = closed_port(), closed_port()
    program = start("--loading", listen="ready", port=str(port), grpc_port=str(grpc_port))
    program.logged("opens when the service is ready")
    assert refuses(port)
    assert refuses(grpc_port)
    program.process.send_signal(signal.SIGUSR1)
    program.logged("ready .* s after")
    assert not refuses(grpc_port)
    assert httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
    assert re.search("listening for gRPC.*listening on .*ready", program.log, re.DOTALL)
    program.terminate()
    assert program.ended() == 0
    assert "Traceback" not in program.log


def test_a_port_that_is_taken_is_an_error_before_the_model_is_loaded(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        program = start("--loading", listen="ready", port=str(listener.getsockname()[1]))
        assert program.ended() == 1
    assert "choose another RCNN_HOST or RCNN_PORT" in program.log


def test_of_two_that_load_the_second_one_to_be_ready_ends(start: Start) -> None:
    port = closed_port()
    first, second = (start("--loading", listen="ready", port=str(port)) for _ in range(2))
    for program in (first, second):
        program.logged("opens when the service is ready")
    first.process.send_signal(signal.SIGUSR1)
    first.logged("listening on")
    second.process.send_signal(signal.SIGUSR1)
    assert second.ended() == 1
    assert f"cannot listen on http://127.0.0.1:{port}: Address already in use" in second.log
    assert "Traceback" not in second.log
    assert detect(first).status_code == 200


def test_a_program_whose_port_is_not_open_yet_stops_at_a_signal(start: Start) -> None:
    program = start("--loading", listen="ready", linger_seconds="100", grpc_port=str(closed_port()))
    program.logged("opens when the service is ready")
    program.terminate()
    assert program.ended(20) == 0
    assert "listening" not in program.log
    assert "Traceback" not in program.log


def test_a_lingering_program_takes_requests_and_says_that_it_goes(start: Start) -> None:
    program = start(linger_seconds="100")
    program.logged("ready")
    assert "connection" not in detect(program).headers
    program.terminate()
    until(lambda: program.client.get("/health/ready").status_code == 503, "it is not ready")
    for path in ("/health", "/health/ready"):
        refused = program.client.get(path)
        assert (refused.status_code, refused.json()["status"]) == (503, "draining")
    for path in ("/readyz", "/ping", "/v2/health/ready", "/v1/models/fake"):
        assert program.client.get(path).status_code == 503, path
    [module] = program.client.get("/v1/module/list/status").json()["statuses"]
    assert module["status"] == "Stopping"
    models = {model["name"]: model for model in program.client.post("/v2/repository/index").json()}
    assert (models["fake"]["state"], models["fake"]["reason"]) == ("UNAVAILABLE", "draining")
    assert program.client.get("/health/live").status_code == 200
    answer = detect(program)
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    program.terminate()  # a second signal stops at once
    assert program.ended(20) == 1


async def test_a_signal_handler_sets_flags_and_the_next_tick_drains() -> None:
    async with serve_app(port=0) as served:
        service = served.app.state.service
        listener = bind_listener(service.settings)
        server = Server(uvicorn_config(served.app, service.settings), served.app.state, listener, None)
        server.handle_exit(signal.SIGTERM, None)
        assert not service.draining.is_set()  # it may run while the event loop is at work
        assert (await served.client.get("/health/ready")).json()["status"] == "draining"
        assert await server.on_tick(1)
        assert service.draining.is_set()
        listener.close()


def test_after_it_the_program_drains(start: Start) -> None:
    program = start(linger_seconds="0.5")
    program.logged("ready")
    program.terminate()
    assert program.ended() == 0
    assert re.search(
        "not ready any more: .* for 0.5 s.*stopping: new requests are refused", program.log, re.DOTALL
    )
    assert "Traceback" not in program.log

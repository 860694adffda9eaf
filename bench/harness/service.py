"""How benchmarks start this service: its command, its environment, and when it is ready."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench.harness.load import Target
from bench.harness.processes import Server, free_port, running
from bench.harness.times import TIMES

MOST_CONNECTIONS = 512  # of the open loop: enough that no request waits in the client
START_TIMEOUT = 240.0


def serve_command() -> list[str]:
    """The service, run by this interpreter."""
    return [sys.executable, "-c", "from app.cli import main; main()", "serve"]


def recorded_command(batches: Path, slower: float | None = None, times: Path = TIMES) -> list[str]:
    """The service, which records its batches; `slower`: with a stand-in that takes so many times as long."""
    stand_in = [] if slower is None else ["--stand-in", str(times), "--slower", str(slower)]
    return [sys.executable, "-m", "bench.harness.recorded", str(batches), *stand_in]


@contextmanager
def serving(command: Sequence[str] = (), **settings: object) -> Iterator[tuple[Target, Server]]:
    """The service with these settings, ready; ended afterwards. Raises NotStarted."""
    port = free_port()
    environment = {"RCNN_PORT": str(port), "RCNN_LOG_LEVEL": "warning"}
    environment |= {f"RCNN_{name.upper()}": str(value) for name, value in settings.items()}
    if "inference_threads" in settings:
        environment["OMP_NUM_THREADS"] = str(settings["inference_threads"])
    with running(command or serve_command(), environment, lambda: is_ready(port), START_TIMEOUT) as server:
        yield Target(port), server


def is_ready(port: int) -> bool:
    """Whether /health/ready answers 200."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=10).status_code == 200
    except httpx.TransportError:
        return False

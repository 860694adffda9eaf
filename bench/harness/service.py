"""How benchmarks start this service: its command, its environment, and when it is ready."""

import sys
from pathlib import Path

import httpx

from bench.harness.times import TIMES

MOST_CONNECTIONS = 512  # of the open loop: enough that none of it waits in the client


def serve_command() -> list[str]:
    """The service, as this interpreter has it."""
    return [sys.executable, "-c", "from app.cli import main; main()", "serve"]


def stand_in_command(folder: Path, slower: float) -> list[str]:
    """The same with a device that takes so many times the measured times, and computes nothing."""
    device = ["--stand-in", str(TIMES), "--slower", str(slower)]
    return [sys.executable, "-m", "bench.harness.recorded", str(folder / "batches"), *device]


def environment(port: int, **settings: str) -> dict[str, str]:
    """RCNN_ variables for a service at the port."""
    named = {f"RCNN_{name.upper()}": value for name, value in settings.items()}
    return {"RCNN_PORT": str(port), "RCNN_LOG_LEVEL": "warning", **named}


def ready(port: int) -> bool:
    """Whether /health/ready says so."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=10).status_code == 200
    except httpx.TransportError:
        return False

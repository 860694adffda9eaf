"""Servers as processes: started with a mark in their environment, which finds all of them later."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
MARK = "BENCH_SERVER_MARK"
GRACE = 20.0  # seconds from SIGTERM to SIGKILL


class NotStarted(RuntimeError):
    """The server ended or was not ready in time; the message is the last error of its log."""


@dataclass(frozen=True)
class Server:
    """A running server; `mark` is in the environment of all its processes."""

    mark: str
    start_seconds: float

    def resident_mebibytes(self) -> float:
        """RSS summed over its processes; memory that they share is counted in each."""
        return sum(map(_resident, members(self.mark)))


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], is_ready: Callable[[], bool], timeout: float
) -> Iterator[Server]:
    """Start a server, wait until it is ready, and end all of its processes afterwards. Raises NotStarted."""
    mark, started = uuid.uuid4().hex, time.monotonic()
    previous = signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # otherwise the server would outlive us
    environment = {**os.environ, **environment, MARK: mark}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603  # a program of ours, or a peer
            command, env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
        )
        try:
            while not is_ready():
                if process.poll() is not None or time.monotonic() > started + timeout:
                    raise NotStarted(_last_error(log))
                time.sleep(0.1)
            yield Server(mark, time.monotonic() - started)
        finally:
            _end(process, mark)
            signal.signal(signal.SIGTERM, previous)


def members(mark: str) -> list[int]:
    """Ids of all processes that carry the mark, wherever in the process tree they are."""
    needle = f"{MARK}={mark}".encode()
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, or belongs to another user
            if needle in (folder / "environ").read_bytes().split(b"\0"):
                pids.append(int(folder.name))
    return pids


def free_port() -> int:
    """A TCP port that is not in use."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _resident(pid: int) -> float:
    with suppress(OSError):
        match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(match[1]) / 1024 if match else 0.0
    return 0.0


def _last_error(log: IO[bytes]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line]
    return (errors or lines or ["no output"])[-1][:200]


def _end(process: subprocess.Popen[bytes], mark: str) -> None:
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while (process.poll() is None or members(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in members(mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + GRACE
    while members(mark) and time.monotonic() < deadline:  # killed; wait() works for children alone
        time.sleep(0.01)

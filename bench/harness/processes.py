"""Servers as processes: started with a mark in their environment, found, measured and ended by it."""

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

ROOT = Path(__file__).parents[2]
MARK = "BENCH_SERVER_MARK"
GRACE = 20.0  # seconds from SIGTERM to SIGKILL


class NotStarted(RuntimeError):
    """The server ended or was not ready in time; the message is the end of its log."""


@dataclass(frozen=True)
class Server:
    """A server that is up; `mark` is in the environment of all its processes."""

    mark: str
    start_seconds: float

    def resident_mebibytes(self) -> float:
        """RSS summed over its processes; memory that they share is counted in each."""
        return sum(map(_resident, members(self.mark)))


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], ready: Callable[[], bool], patience: float
) -> Iterator[Server]:
    """Start a server, wait until it is ready, and end all of its processes afterwards. Raises NotStarted."""
    mark, started = uuid.uuid4().hex, time.monotonic()
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or the server would outlive us
    everything = {**os.environ, **environment, MARK: mark}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603  # a program of ours, or a peer
            command, env=everything, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
        )
        try:
            while not ready():
                if process.poll() is not None or time.monotonic() > started + patience:
                    raise NotStarted(_end_of(log))
                time.sleep(0.1)
            yield Server(mark, time.monotonic() - started)
        finally:
            _end(process, mark)
            signal.signal(signal.SIGTERM, before)


def members(mark: str) -> list[int]:
    """Process ids of all that carry the mark, wherever in the tree they hang by now."""
    needle = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, or is somebody else's
            if needle in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _resident(pid: int) -> float:
    with suppress(OSError):
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0
    return 0.0


def _end_of(log: tempfile._TemporaryFileWrapper) -> str:  # type: ignore[type-arg]  # bytes, as it was opened
    log.seek(0)
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line]
    return (errors or lines or ["it said nothing"])[-1][:200]


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
    while members(mark) and time.monotonic() < deadline:  # killed; not all are children to wait for
        time.sleep(0.01)

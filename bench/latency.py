"""What the service adds to one request: `python -m bench.latency`.

One kept connection and one request at a time, so nobody waits for anybody. In turns: decode and detector
called directly, in a process of their own as the service has one (bench/peers/direct.py), then the same
image through the service, as raw body, then as multipart. The client is a blocking socket that writes
prepared bytes and reads to the end of the answer; an HTTP library would add more than what is measured here.
The first few of each turn do not count, and medians are over all rounds.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.harness import cards, pictures
from bench.harness.load import Target, percentile
from bench.harness.machine import describe_machine, title
from bench.harness.options import command_line, write_json
from bench.harness.processes import ROOT, free_port, running
from bench.harness.service import environment, ready, serve_command

DIRECT, RAW, MULTIPART = "direct", "raw body", "multipart"
ENCODINGS = {RAW: "raw", MULTIPART: "multipart"}
WARM_UP = 3  # requests at the beginning of each turn


class Client:
    """One kept connection; it blocks, and looks at nothing of an answer but its status and length."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self, request: bytes) -> bytes:
        """The head of the answer, once all of it is here; raises RuntimeError for anything but a 200."""
        self._socket.sendall(request)
        head, _, body = self._until(b"\r\n\r\n").partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"the service answered {head.splitlines()[0].decode()}: {body.decode()[:200]}")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        missing = int(length[1]) - len(body) if length else 0
        while missing > 0:
            missing -= len(self._received())
        return head

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _until(self, mark: bytes) -> bytes:
        data = b""
        while mark not in data:
            data += self._received()
        return data

    def _received(self) -> bytes:
        data = self._socket.recv(1 << 16)
        if not data:
            raise RuntimeError("the service hung up in the middle of an answer")
        return data


@dataclass(frozen=True)
class Asked:
    """One request: how long it took, and the head of its answer (none for a direct call)."""

    seconds: float
    head: bytes = b""


@dataclass
class Times:
    """Seconds of each counted request, and the stages that the service said, in ms."""

    seconds: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def p50_ms(self) -> float:
        """The median."""
        return percentile(self.seconds, 0.5) * 1000

    def stages_ms(self) -> dict[str, float]:
        """The median of each stage."""
        return {stage: percentile(values, 0.5) for stage, values in self.stages.items()}


Way = Callable[[int], list[Asked]]
"""Asks so many times, one after the other."""


def turns(ways: dict[str, Way], rounds: int, requests: int) -> dict[str, Times]:
    """Each way `requests` times, in turns: A B C, A B C, …"""
    found = {name: Times() for name in ways}
    for _ in range(rounds):
        for name, ask in ways.items():
            for one in ask(WARM_UP + requests)[WARM_UP:]:
                found[name].seconds.append(one.seconds)
                for stage, value in timing(one.head):
                    found[name].stages[stage].append(value)
    return found


def timing(head: bytes) -> Iterator[tuple[str, float]]:
    """Stage and milliseconds out of an answer's Server-Timing."""
    line = re.search(rb"(?i)\r\nserver-timing: *([^\r]*)", head)
    for stage, value in re.findall(r"(\w+);dur=([\d.]+)", line[1].decode() if line else ""):
        yield stage, float(value)


def summary(found: dict[str, Times]) -> list[dict[str, object]]:
    """A row each: its p50, what that is above the direct call, its stages."""
    base = found[DIRECT].p50_ms
    return [
        {
            "way": name,
            "requests": len(times.seconds),
            "p50_ms": times.p50_ms,
            "p99_ms": percentile(times.seconds, 0.99) * 1000,
            "added_ms": times.p50_ms - base,
            "stages_ms": times.stages_ms(),
        }
        for name, times in found.items()
    ]


@contextmanager
def direct(model: str, threads: int) -> Iterator[Way]:
    """Decode and detector of the card in a process of their own, which waits while others have their turn."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        command = [
            sys.executable,
            "-m",
            "bench.peers.direct",
            str(pictures.write(Path(folder) / "scene.jpg")),
        ]
        names = {"BENCH_MODEL": model, "BENCH_ENGINE": "ours", "BENCH_THREADS": str(threads)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        environment = {**os.environ, **names, "OMP_NUM_THREADS": str(threads)}
        # A session of its own, as the service has: Linux shares the cores out between sessions (autogroups).
        process = subprocess.Popen(  # noqa: S603  # ourselves
            command, env=environment, cwd=ROOT, text=True, bufsize=1, start_new_session=True, **pipes
        )
        with process:
            yield lambda count: _told(process, count)
            process.stdin.close()


def _told(process: subprocess.Popen[str], count: int) -> list[Asked]:
    process.stdin.write(f"{count}\n")
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("the process of the direct calls has ended; its reason is above")
    return [Asked(seconds) for seconds in json.loads(line)]


def measure(model: str, given: argparse.Namespace) -> dict[str, Times]:
    """Start the service, and take turns with it."""
    image, port = pictures.jpeg(), free_port()
    settings = environment(port, model=model, inference_threads=str(given.threads))
    threads = {"OMP_NUM_THREADS": str(given.threads)}
    with running(serve_command(), {**settings, **threads}, lambda: ready(port), 240):
        client = Client(port)
        requests = {way: Target(port, encoding=how).request(image) for way, how in ENCODINGS.items()}
        with direct(model, given.threads) as call, closing(client):
            ways = {DIRECT: call} | {way: _asking(client, request) for way, request in requests.items()}
            return turns(ways, given.rounds, given.requests)


def _asking(client: Client, request: bytes) -> Way:
    def ask(count: int) -> list[Asked]:
        found = []
        for _ in range(count):
            started = time.perf_counter()
            head = client.exchange(request)
            found.append(Asked(time.perf_counter() - started, head))
        return found

    return ask


def table(rows: list[dict[str, object]], heading: str) -> Table:
    """A row each; stages are the service's own medians, `outside` what its client saw beyond `total`."""
    stages = list(dict.fromkeys(stage for row in rows for stage in _stages(row)))
    shown = Table("", "p50 ms", "p99 ms", "added ms", *stages, "outside", title=heading)
    for row in rows:
        times = _stages(row)
        cells = [f"{times[stage]:.2f}" if stage in times else "" for stage in stages]
        outside = f"{float(str(row['p50_ms'])) - times['total']:.2f}" if "total" in times else ""
        numbers = (f"{row[name]:.2f}" for name in ("p50_ms", "p99_ms", "added_ms"))
        shown.add_row(str(row["way"]), *numbers, *cells, outside)
    return shown


def _stages(row: dict[str, object]) -> dict[str, float]:
    found = row["stages_ms"]
    return found if isinstance(found, dict) else {}


def main() -> None:
    """Print a row for the direct call and for each way through the service."""
    parser, cores = command_line(__doc__), len(os.sched_getaffinity(0))
    parser.add_argument("--model", default="shapes", help=f"name or path of a card, or {cards.HEAVY}")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--requests", type=int, default=50, help="of each way in a round")
    parser.add_argument("--threads", type=int, default=cores, help="of the model, both ways")
    given = parser.parse_args()
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        rows = summary(measure(cards.find(given.model, Path(folder)), given))
    heading = f"{given.model}, one connection, {given.rounds} rounds of {given.requests}; {title(machine)}"
    Console(width=150).print(table(rows, heading))
    write_json(given.json, {"machine": machine, "model": given.model, "rows": rows})


if __name__ == "__main__":
    main()

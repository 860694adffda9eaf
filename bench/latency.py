"""What the service adds to one request: `python -m bench.latency`.

One kept connection, one request at a time, so that no request waits for another. In turns: decode and
detector called directly, in a process of their own (bench/peers/direct.py), then the same image through the
service, as raw body, then as multipart. The client is a blocking socket that writes prepared bytes and reads
to the end of the answer, because an HTTP library would add more than what is measured here. The first
requests of each turn do not count; medians are over all rounds.
"""

import argparse
import re
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from bench.harness import cards, pictures
from bench.harness.contest import direct_calls, model_environment
from bench.harness.load import Target
from bench.harness.machine import describe_machine, title
from bench.harness.measuring import interleaved, percentile
from bench.harness.options import Columns, add_model, add_threads, command_line, print_table, write_json
from bench.harness.service import serving

DIRECT, RAW, MULTIPART = "direct", "raw body", "multipart"
ENCODINGS = {RAW: "raw", MULTIPART: "multipart"}
WARM_UP = 3  # requests at the beginning of each turn


class BlockingClient:
    """One kept connection; it reads nothing of an answer but its status and length."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self, request: bytes) -> bytes:
        """The head of the answer, once all of it is here; raises RuntimeError unless it is a 200."""
        self._socket.sendall(request)
        head, _, body = self._read_until(b"\r\n\r\n").partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"the service answered {head.splitlines()[0].decode()}: {body.decode()[:200]}")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        missing = int(length[1]) - len(body) if length else 0
        while missing > 0:
            missing -= len(self._receive())
        return head

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _read_until(self, mark: bytes) -> bytes:
        data = b""
        while mark not in data:
            data += self._receive()
        return data

    def _receive(self) -> bytes:
        data = self._socket.recv(1 << 16)
        if not data:
            raise RuntimeError("the service closed the connection in the middle of an answer")
        return data


@dataclass(frozen=True)
class RequestTime:
    """One request: its seconds, and the head of its answer (empty for a direct call)."""

    seconds: float
    head: bytes = b""


Turn = Callable[[int], list[RequestTime]]
"""Sends so many requests, one after the other."""


def stages_ms(head: bytes) -> dict[str, float]:
    """Milliseconds by stage, from an answer's Server-Timing."""
    line = re.search(rb"(?i)\r\nserver-timing: *([^\r]*)", head)
    stages = re.findall(r"(\w+);dur=([\d.]+)", line[1].decode() if line else "")
    return {stage: float(value) for stage, value in stages}


def compare(turns: Mapping[str, Turn], rounds: int, requests: int) -> list[dict[str, Any]]:
    """A row for each way, the first the direct call: p50, what that is above the first's, stages."""
    variants = {name: partial(_counted, turn, requests) for name, turn in turns.items()}
    rows: list[dict[str, Any]] = []
    for name, taken in interleaved(variants, range(rounds)).items():
        times = list(chain.from_iterable(taken))
        p50, p99 = (percentile([time.seconds for time in times], share) * 1000 for share in (0.5, 0.99))
        heads = [stages_ms(time.head) for time in times]
        stages = {stage: percentile([head[stage] for head in heads], 0.5) for stage in heads[0]}
        row = {"way": name, "requests": len(times), "p50_ms": p50, "p99_ms": p99, "stages_ms": stages}
        rows.append(row | {"added_ms": p50 - (rows[0]["p50_ms"] if rows else p50)})
    return rows


def _counted(turn: Turn, requests: int, _: int) -> list[RequestTime]:
    return turn(WARM_UP + requests)[WARM_UP:]


def measure(model: str, arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Start the service and the direct calls, and let them take turns."""
    image, threads = pictures.write(folder / "scene.jpg"), arguments.threads
    environment = model_environment(model, "ours", threads)
    with (
        serving(model=model, inference_threads=threads) as (target, _),
        direct_calls(image, environment) as call,
        closing(BlockingClient(target.port)) as client,
    ):
        turns: dict[str, Turn] = {DIRECT: lambda count: [RequestTime(one) for one in call(count, 1)]}
        for way, encoding in ENCODINGS.items():
            request = Target(target.port, encoding=encoding).request(image.read_bytes())
            turns[way] = partial(send, client, request)
        return compare(turns, arguments.rounds, arguments.requests)


def send(client: BlockingClient, request: bytes, count: int) -> list[RequestTime]:
    """The request so many times, one after the other."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        head = client.exchange(request)
        times.append(RequestTime(time.perf_counter() - started, head))
    return times


def print_rows(rows: list[dict[str, Any]], heading: str) -> None:
    """A row each; stages are the service's own medians, `outside` what the client measured beyond `total`."""
    stages = dict.fromkeys(chain.from_iterable(row["stages_ms"] for row in rows))
    columns: Columns = {
        "": "{way}",
        "p50 ms": "{p50_ms:.2f}",
        "p99 ms": "{p99_ms:.2f}",
        "added ms": "{added_ms:.2f}",
        **{stage: f"{{stages_ms[{stage}]:.2f}}" for stage in stages},
        "outside": lambda row: f"{row['p50_ms'] - row['stages_ms']['total']:.2f}",
    }
    print_table(heading, columns, rows)


def main() -> None:
    """Print a row for the direct call and for each way through the service."""
    parser = command_line(__doc__)
    add_model(parser)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--requests", type=int, default=50, help="of each way in a round")
    add_threads(parser)
    arguments, machine = parser.parse_args(), describe_machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        rows = measure(cards.find(arguments.model, Path(folder)), arguments, Path(folder))
    turns = f"{arguments.rounds} rounds of {arguments.requests}"
    print_rows(rows, f"{arguments.model}, one connection, {turns}; {title(machine)}")
    write_json(arguments.json, machine, model=arguments.model, rows=rows)


if __name__ == "__main__":
    main()

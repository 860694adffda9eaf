"""One server at a time: started, asked in closed and open loop, measured, ended."""

import json
import math
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

import httpx

from bench.harness.load import Figures, Plan, Target, measure, percentile
from bench.harness.processes import ROOT, NotStarted, Server, free_port, running
from bench.peers.catalogue import Peer

MOST_CONNECTIONS = 64  # of an open loop
LOOP = "loop"  # no server
READY_SECONDS = 240.0


@dataclass(frozen=True)
class Course:
    """What everybody is asked to do: the card, the image, how many at once, how long, how fast."""

    card: str
    image: Path
    connections: tuple[int, ...]
    rates: tuple[float, ...]  # multiples of the server's own capacity
    seconds: float
    venvs: Path
    threads: int


@dataclass(frozen=True)
class Result:
    """One run of one server: figures by point ("4" connections, "1.5x" of capacity), or the reason."""

    server: str
    engine: str
    points: dict[str, Figures] = field(default_factory=dict)
    resident_mebibytes: float = math.nan
    start_seconds: float = math.nan
    version: str = ""
    reason: str = ""

    @property
    def capacity(self) -> float:
        """The most images a second of its closed loops."""
        return max(
            (run.images_per_second for name, run in self.points.items() if "x" not in name), default=0.0
        )


def run(peer: Peer, engine: str, course: Course) -> Result:
    """Measure one server; a server that cannot be had or started is a result with its reason."""
    if reason := peer.missing(course.venvs):
        return Result(peer.name, engine, reason=reason)
    try:
        with up(peer, engine, course) as (target, server):
            return _ask(peer, engine, course, target, server)
    except NotStarted as error:
        return Result(peer.name, engine, reason=f"did not start: {error}")


@contextmanager
def up(peer: Peer, engine: str, course: Course) -> Iterator[tuple[Target, Server]]:
    """A server that has detected once, and where to ask it; ended afterwards. Raises NotStarted."""
    port = free_port()
    target = Target(port, peer.path, peer.encoding)
    command, environment = peer.command(course.venvs, port), _environment(course, engine, port)
    with running(command, environment, lambda: _answers(target, course.image), READY_SECONDS) as server:
        yield target, server


def _ask(peer: Peer, engine: str, course: Course, target: Target, server: Server) -> Result:
    """The closed loops, from few connections to many, then the open ones."""
    images = [course.image]
    measure(target, images, Plan(min(4, max(course.connections)), min(1.0, course.seconds)))  # warm-up
    points = {
        str(count): measure(target, images, Plan(count, course.seconds)) for count in course.connections
    }
    capacity = max(point.images_per_second for point in points.values())
    for share in course.rates if capacity else ():
        plan = Plan(MOST_CONNECTIONS, course.seconds, rate=share * capacity)
        points[f"{share:g}x"] = measure(target, images, plan)
    version = _version(peer, course.venvs)
    return Result(peer.name, engine, points, server.resident_mebibytes(), server.start_seconds, version)


def loop(engine: str, course: Course, batch: int) -> Result:
    """Decode, model and JSON in a plain loop, alone and in batches: what any server could reach at most."""
    points = {}
    for size in sorted({1, batch}):
        command = [sys.executable, "-m", "bench.peers.plain_loop", str(course.image)]
        command += [str(course.seconds), str(size)]
        environment = {**os.environ, **_environment(course, engine, 0)}
        done = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, check=True)  # noqa: S603  # ourselves
        times = json.loads(done.stdout)
        p50, p99, slowest = (percentile(times, share) * 1000 for share in (0.5, 0.99, 1.0))
        rate = size * len(times) / sum(times)
        points[str(size)] = Figures(rate, p50, p99, slowest, size * len(times), {}, 0)
    return Result(LOOP, engine, points)


def median(results: Sequence[Result]) -> Result:
    """The results of one server over the rounds, number by number; failed rounds count only if all failed."""
    good = [result for result in results if result.points] or [results[0]]
    points = {
        name: _median_of([result.points[name] for result in good if name in result.points])
        for name in good[0].points
    }
    resident = statistics.median(result.resident_mebibytes for result in good)
    start = statistics.median(result.start_seconds for result in good)
    first = good[0]
    return Result(first.server, first.engine, points, resident, start, first.version, first.reason)


def _median_of(runs: Sequence[Figures]) -> Figures:
    """Medians of the numbers; errors are added up."""
    numbers = [item.name for item in fields(Figures) if item.name != "errors"]
    errors: defaultdict[str, int] = defaultdict(int)
    for one in runs:
        for status, count in one.errors.items():
            errors[status] += count
    middle = {name: statistics.median(getattr(one, name) for one in runs) for name in numbers}
    return Figures(**middle, errors=dict(errors))


def _environment(course: Course, engine: str, port: int) -> dict[str, str]:
    """The same model and threads for everybody, whichever variables they listen to."""
    threads = str(course.threads)
    ours = {"RCNN_MODEL": course.card, "RCNN_PORT": str(port), "RCNN_INFERENCE_THREADS": threads}
    theirs = {"BENCH_MODEL": course.card, "BENCH_PORT": str(port), "BENCH_THREADS": threads}
    theirs["BENCH_FOLDER"] = str(course.image.parent)  # it goes when the run is over
    common = {"OMP_NUM_THREADS": threads, "BENCH_ENGINE": engine, "PYTHONPATH": str(ROOT)}
    return {**ours, **theirs, **common, "RCNN_TIMEOUT_MS": "600000", "RCNN_LOG_LEVEL": "warning"}


def _answers(target: Target, image: Path) -> bool:
    """Whether the server detects: an answer with boxes, not merely an open port."""
    head, _, body = target.request(image.read_bytes()).partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    url = f"http://127.0.0.1:{target.port}{target.path}"
    try:
        answer = httpx.post(url, content=body, headers=headers, timeout=READY_SECONDS)
    except httpx.TransportError:
        return False
    return answer.status_code == 200 and b'"boxes"' in answer.content


def _version(peer: Peer, venvs: Path) -> str:
    """The version of the package that the peer is named after."""
    python = peer.command(venvs, 0)[0]
    program = f"import importlib.metadata as m; print(m.version({peer.name!r}))"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True)  # noqa: S603  # ourselves
    return done.stdout.strip()

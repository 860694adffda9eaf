"""One server at a time, started, loaded in closed and open loop, and ended; the detector without a server."""

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import httpx

from bench.harness.load import LoadPlan, LoadResult, Tally, Target, combine, measure, summarize
from bench.harness.processes import ROOT, NotStarted, Server, free_port, running
from bench.harness.service import START_TIMEOUT
from bench.peers.catalogue import Peer

LOOP = "loop"  # the name of the detector without a server
LOOP_BATCH = 8
FIELDS = ("boxes", "labels", "scores")


@dataclass(frozen=True)
class Scenario:
    """What every server is measured with: card, image, connections, rates, seconds of each load."""

    card: str
    image: Path
    connections: tuple[int, ...]
    rates: tuple[float, ...]  # multiples of the server's own capacity
    seconds: float
    venvs: Path
    threads: int
    open_connections: int = 64  # most of an open loop


@dataclass(frozen=True)
class ServerResult:
    """One run of one server: results by load ("4" connections, "1.5x" of capacity), or why there are none."""

    server: str
    engine: str
    loads: dict[str, LoadResult] = field(default_factory=dict)
    resident_mebibytes: float = math.nan
    start_seconds: float = math.nan
    version: str = ""
    reason: str = ""
    answer: dict[str, Any] | None = None  # boxes, labels and scores of the image

    @property
    def closed_loops(self) -> dict[str, LoadResult]:
        """The loads with a number of connections."""
        return {name: load for name, load in self.loads.items() if not name.endswith("x")}

    @property
    def capacity(self) -> float:
        """The most images a second of its closed loops."""
        return max((load.images_per_second for load in self.closed_loops.values()), default=0.0)


def measure_peer(peer: Peer, engine: str, scenario: Scenario) -> ServerResult:
    """Measure one server; if it is not installed or does not start, the result has the reason."""
    if reason := peer.missing(scenario.venvs):
        return ServerResult(peer.name, engine, reason=reason)
    try:
        with start_peer(peer, engine, scenario) as (target, server):
            answer = ask_once(target, scenario.image)
            loads = run_loads(target, scenario)
            resident, start = server.resident_mebibytes(), server.start_seconds
    except NotStarted as error:
        return ServerResult(peer.name, engine, reason=f"did not start: {error}")
    version = _version(peer, scenario.venvs)
    return ServerResult(peer.name, engine, loads, resident, start, version, answer=answer)


@contextmanager
def start_peer(peer: Peer, engine: str, scenario: Scenario) -> Iterator[tuple[Target, Server]]:
    """A server that has answered one detection; ended afterwards. Raises NotStarted."""
    port = free_port()
    target = Target(port, peer.path, peer.encoding)
    command, environment = peer.command(scenario.venvs, port), _environment(scenario, engine, port)
    with running(
        command, environment, lambda: ask_once(target, scenario.image) is not None, START_TIMEOUT
    ) as server:
        yield target, server


def run_loads(target: Target, scenario: Scenario) -> dict[str, LoadResult]:
    """The closed loops, from few connections to many, then the open loops."""
    images, seconds = [scenario.image], scenario.seconds
    warm_up = LoadPlan(min(4, max(scenario.connections)), min(1.0, seconds))
    measure(target, images, warm_up)
    loads = {str(count): measure(target, images, LoadPlan(count, seconds)) for count in scenario.connections}
    capacity = max(load.images_per_second for load in loads.values())
    for share in scenario.rates if capacity else ():
        plan = LoadPlan(scenario.open_connections, seconds, rate=share * capacity)
        loads[f"{share:g}x"] = measure(target, images, plan)
    return loads


Calls = Callable[[int, int], list[float]]
"""Number of calls and images in each → seconds of each call."""


@contextmanager
def direct_calls(image: Path, environment: Mapping[str, str]) -> Iterator[Calls]:
    """Decode and detect the image as `environment` says (BENCH_MODEL, BENCH_ENGINE, BENCH_THREADS)."""
    command = [sys.executable, "-m", "bench.peers.direct", str(image)]
    # A session of its own, as the service has: Linux divides the cores among sessions (autogroups).
    process = subprocess.Popen(  # noqa: S603  # ourselves
        command,
        env={**os.environ, **environment},
        cwd=ROOT,
        text=True,
        bufsize=1,
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        reader, writer = cast(IO[str], process.stdout), cast(IO[str], process.stdin)

        def call(count: int, batch: int) -> list[float]:
            writer.write(f"{count} {batch}\n")
            if not (line := reader.readline()):
                raise RuntimeError("the process of the direct calls has ended; see its output above")
            seconds: list[float] = json.loads(line)
            return seconds

        yield call
        writer.close()


def model_environment(model: str, engine: str, threads: int) -> dict[str, str]:
    """The variables that bench.peers.model reads."""
    names = {"BENCH_MODEL": model, "BENCH_ENGINE": engine, "BENCH_THREADS": str(threads)}
    return {**names, "OMP_NUM_THREADS": str(threads)}


def measure_loop(engine: str, scenario: Scenario) -> ServerResult:
    """Decode and detector in a plain loop, alone and in batches: the most that a server could reach."""
    environment = model_environment(scenario.card, engine, scenario.threads)
    with direct_calls(scenario.image, environment) as call:
        loads = {}
        for batch in (1, LOOP_BATCH):
            call(1, batch)  # warm-up
            tally = Tally()
            while not tally.finished or tally.finished[-1] < scenario.seconds:
                [seconds] = call(1, batch)
                ended = seconds + (tally.finished[-1] if tally.finished else 0.0)
                for _ in range(batch):
                    tally.add(200, False, seconds, ended)
            loads[str(batch)] = summarize(tally, LoadPlan(1, scenario.seconds))
    return ServerResult(LOOP, engine, loads)


def combine_rounds(rounds: Sequence[ServerResult]) -> ServerResult:
    """The rounds of one server as one result; rounds without a result count only if there are no others."""
    good = [result for result in rounds if result.loads] or [rounds[0]]
    first = good[0]
    return ServerResult(
        first.server,
        first.engine,
        {
            name: combine([result.loads[name] for result in good if name in result.loads])
            for name in first.loads
        },
        statistics.median(result.resident_mebibytes for result in good),
        statistics.median(result.start_seconds for result in good),
        first.version,
        first.reason,
        first.answer,
    )


def _environment(scenario: Scenario, engine: str, port: int) -> dict[str, str]:
    """The same model and threads for every server, under the names that each reads."""
    ours = {"RCNN_MODEL": scenario.card, "RCNN_PORT": str(port), "RCNN_TIMEOUT_MS": "600000"}
    ours |= {"RCNN_INFERENCE_THREADS": str(scenario.threads), "RCNN_LOG_LEVEL": "warning"}
    theirs = model_environment(scenario.card, engine, scenario.threads) | {"BENCH_PORT": str(port)}
    theirs["BENCH_FOLDER"] = str(scenario.image.parent)  # removed when the run is over
    return {**ours, **theirs, "PYTHONPATH": str(ROOT)}


def ask_once(target: Target, image: Path) -> dict[str, Any] | None:
    """The server's answer with boxes; None without one: an open port alone is no server that detects."""
    head, _, body = target.request(image.read_bytes()).partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    url = f"http://127.0.0.1:{target.port}{target.path}"
    try:
        answer = httpx.post(url, content=body, headers=headers, timeout=START_TIMEOUT)
    except httpx.TransportError:
        return None
    if answer.status_code != 200 or b'"boxes"' not in answer.content:
        return None
    content = answer.json()
    if isinstance(content, list):  # BentoML's, of a batch of one
        [content] = content
    return {name: content[name] for name in FIELDS}


def _version(peer: Peer, venvs: Path) -> str:
    """The version of the package that the peer is named after."""
    python = peer.command(venvs, 0)[0]
    program = f"import importlib.metadata as m; print(m.version({peer.name!r}))"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True)  # noqa: S603  # ourselves
    return done.stdout.strip()

"""Where the time of requests goes, by thread: `python -m bench.profile`.

The service runs under py-spy, which looks at its stacks from outside some hundred times a second and costs
it little. Threads that wait do not count, nor does what the event loop does beneath Python (sockets). Shares
are of a thread's own samples: on the event loop everything around the image, in the decode threads file to
canvas, on the device's thread the batch. `self` is the function alone, `with callees` all that it calls; the
last table adds self up by package.
"""

import argparse
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.harness import cards, pictures
from bench.harness.load import Plan, Target, measure
from bench.harness.machine import describe_machine, title
from bench.harness.options import command_line, write_json
from bench.harness.processes import free_port, members, running
from bench.harness.service import environment, ready, serve_command

THREADS = {"decode": "decode threads", "batcher": "device's thread", "MainThread": "event loop"}
STARTING = ("_load_and_warm_up", "_find_and_load", "create_app")  # what a request never does
WAITING = (
    *("_worker (concurrent/futures/thread.py", "Worker._work (app/batching/worker.py"),
    *("Runner.run (asyncio/runners.py", "Condition.wait (threading.py"),
)  # the innermost function of a thread that has nothing to do
WRITTEN_SECONDS = 30.0

_FRAME = re.compile(r"(?P<function>.+) \((?P<file>.+):\d+\)")


@dataclass
class Share:
    """Samples of one thread: in all, by function alone, by function with what it calls, by package alone."""

    samples: int = 0
    alone: Counter[str] = field(default_factory=Counter)
    inclusive: Counter[str] = field(default_factory=Counter)
    packages: Counter[str] = field(default_factory=Counter)

    def add(self, frames: list[str], count: int) -> None:
        """Count a stack, outermost frame first."""
        self.samples += count
        self.alone[frames[-1]] += count
        self.packages[package(frames[-1])] += count
        for frame in set(frames):
            self.inclusive[frame] += count


def read(stacks: Iterable[str]) -> dict[str, Share]:
    """py-spy's raw output, a stack a line with its count, by kind of thread; no start, nobody who waits."""
    found: dict[str, Share] = {}
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        thread, *frames = stack.split(";")
        name = re.sub(r"^thread \(\w+\): |_\d+$", "", thread)
        idle = not frames or frames[-1].startswith(WAITING) or any(part in stack for part in STARTING)
        if name in THREADS and not idle:
            found.setdefault(THREADS[name], Share()).add([_without_line(one) for one in frames], int(count))
    return found


def package(function: str) -> str:
    """Whose code a frame is: a room of ours, else the first folder or module of its file."""
    parts = function.partition(" (")[2].rstrip(")").split("/")
    depth = 2 if parts[0] in ("app", "models") else 1
    return "/".join(parts[:depth]).removesuffix(".py")


def _without_line(frame: str) -> str:
    """A frame without its line, so that a function is one row."""
    found = _FRAME.fullmatch(frame)
    return f"{found['function']} ({found['file']})" if found else frame


def record(model: str, given: argparse.Namespace, folder: Path) -> list[str]:
    """Serve under py-spy, ask, and end the service; the stacks that it wrote then."""
    port, stacks = free_port(), folder / "stacks.txt"
    image = pictures.write(folder / "scene.jpg")
    spy = [_py_spy(), "record", "--format", "raw", "--threads", "--rate", str(given.rate)]
    command = [*spy, "--output", str(stacks), "--", *serve_command()]
    settings = environment(port, model=model, inference_threads=str(given.threads))
    with running(command, {**settings, "RCNN_LOG_LEVEL": "info"}, lambda: ready(port), 240) as server:
        measure(Target(port, encoding=given.encoding), [image], Plan(given.connections, given.seconds))
        for pid in members(server.mark):
            if Path(f"/proc/{pid}/comm").read_text().strip() != "py-spy":
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + WRITTEN_SECONDS
        while not stacks.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        while members(server.mark) and time.monotonic() < deadline:
            time.sleep(0.1)
    return stacks.read_text().splitlines()


def _py_spy() -> str:
    found = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        raise SystemExit("py-spy is not installed; make install brings it, or: pip install py-spy")
    return found


def tables(found: dict[str, Share], rows: int) -> list[Table]:
    """A table a thread, the largest costs first, and one of packages."""
    everything = sum(share.samples for share in found.values())
    shown = []
    packages = Table("thread", "package", "self", title="By package", title_justify="left")
    for thread, share in found.items():
        heading = f"{thread}: {share.samples / everything:.0%} of all samples"
        table = Table("function", "self", "with callees", title=heading, title_justify="left")
        for function, count in share.alone.most_common(rows):
            both = (count / share.samples, share.inclusive[function] / share.samples)
            table.add_row(function, *(f"{value:.1%}" for value in both))
        for name, count in share.packages.most_common(rows):
            packages.add_row(thread, name, f"{count / share.samples:.1%}")
        shown.append(table)
    return [*shown, packages]


def main() -> None:
    """Print the tables; the JSON has every function."""
    parser, cores = command_line(__doc__), len(os.sched_getaffinity(0))
    parser.add_argument("--model", default="shapes", help=f"name or path of a card, or {cards.HEAVY}")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--encoding", default="raw", choices=("raw", "multipart", "json"))
    parser.add_argument("--rate", type=int, default=250, help="samples a second")
    parser.add_argument("--rows", type=int, default=12, help="of each table")
    parser.add_argument("--threads", type=int, default=cores, help=f"of the model; {cores}: one a core")
    given = parser.parse_args()
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        found = read(record(cards.find(given.model, Path(folder)), given, Path(folder)))
    console = Console(width=150)
    what = f"{given.model}, {given.encoding}, {given.connections} connections, {given.seconds:g} s"
    console.print(f"{what}; {title(machine)}")
    for table in tables(found, given.rows):
        console.print(table)
    threads = {
        name: {"samples": one.samples, "self": one.alone, "with_callees": one.inclusive}
        for name, one in found.items()
    }
    write_json(given.json, {"machine": machine, "model": given.model, "threads": threads})


if __name__ == "__main__":
    main()

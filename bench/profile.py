"""Where the time of requests goes, by thread: `python -m bench.profile`.

The service runs under py-spy, which samples its stacks from outside some hundred times a second and costs it
little. Waiting threads do not count, nor does what the event loop does beneath Python (sockets). Shares are
of a thread's own samples: on the event loop everything around the image, in the decode threads file to
canvas, on the device's thread the batch. `self` is the function alone, `with callees` includes all that it
calls.
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

from bench.harness import cards, pictures
from bench.harness.load import ENCODINGS, LoadPlan, Target, measure
from bench.harness.machine import describe_machine, title
from bench.harness.options import add_model, add_threads, command_line, print_table, write_json
from bench.harness.processes import members
from bench.harness.service import serve_command, serving

THREADS = {"decode": "decode threads", "batcher": "device's thread", "MainThread": "event loop"}
STARTING = ("_load_and_warm_up", "_find_and_load", "create_app")  # never part of a request
WAITING = (
    *("_worker (concurrent/futures/thread.py", "Worker._work (app/batching/worker.py"),
    *("Runner.run (asyncio/runners.py", "Condition.wait (threading.py"),
)  # the innermost function of a thread that has nothing to do
WRITE_SECONDS = 30.0


@dataclass
class ThreadProfile:
    """Samples of one thread: in all, by function alone, by function with its callees."""

    samples: int = 0
    alone: Counter[str] = field(default_factory=Counter)
    inclusive: Counter[str] = field(default_factory=Counter)

    def add(self, frames: list[str], count: int) -> None:
        """Count a stack, outermost frame first."""
        self.samples += count
        self.alone[frames[-1]] += count
        for frame in set(frames):
            self.inclusive[frame] += count


def parse_stacks(stacks: Iterable[str]) -> dict[str, ThreadProfile]:
    """py-spy's raw output, a stack a line with its count, by thread; without the start and waiting."""
    threads: dict[str, ThreadProfile] = {}
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        thread, *frames = stack.split(";")
        name = re.sub(r"^thread \(\w+\): |_\d+$", "", thread)
        idle = not frames or frames[-1].startswith(WAITING) or any(part in stack for part in STARTING)
        if name in THREADS and not idle:
            profile = threads.setdefault(THREADS[name], ThreadProfile())
            profile.add(frames, int(count))
    return threads


def record(model: str, arguments: argparse.Namespace, folder: Path) -> list[str]:
    """Serve under py-spy, send the load, and end the service; the stacks that py-spy then writes."""
    stacks, image = folder / "stacks.txt", pictures.write(folder / "scene.jpg")
    command = [_py_spy(), "record", "--format", "raw", "--threads", "--nolineno"]
    command += ["--rate", str(arguments.rate), "--output", str(stacks), "--", *serve_command()]
    settings = {"model": model, "inference_threads": arguments.threads, "log_level": "info"}
    with serving(command, **settings) as (target, server):
        target = Target(target.port, encoding=arguments.encoding)
        measure(target, [image], LoadPlan(arguments.connections, arguments.seconds))
        for pid in members(server.mark):
            if Path(f"/proc/{pid}/comm").read_text().strip() != "py-spy":
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + WRITE_SECONDS
        while (not stacks.exists() or members(server.mark)) and time.monotonic() < deadline:
            time.sleep(0.1)
    return stacks.read_text().splitlines()


def _py_spy() -> str:
    path = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if path is None:
        raise SystemExit("py-spy is not installed; make install brings it, or: pip install py-spy")
    return path


def print_profiles(threads: dict[str, ThreadProfile], rows: int) -> None:
    """A table a thread, the largest costs first."""
    total = sum(profile.samples for profile in threads.values())
    columns = {"function": "{function}", "self": "{self:.1%}", "with callees": "{callees:.1%}"}
    for thread, profile in threads.items():
        functions = [
            {
                "function": function,
                "self": count / profile.samples,
                "callees": profile.inclusive[function] / profile.samples,
            }
            for function, count in profile.alone.most_common(rows)
        ]
        print_table(f"{thread}: {profile.samples / total:.0%} of all samples", columns, functions)


def main() -> None:
    """Print the tables; the JSON has every function."""
    parser = command_line(__doc__)
    add_model(parser)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--encoding", default="raw", choices=ENCODINGS)
    parser.add_argument("--rate", type=int, default=250, help="samples a second")
    parser.add_argument("--rows", type=int, default=12, help="of each table")
    add_threads(parser)
    arguments, machine = parser.parse_args(), describe_machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        threads = parse_stacks(record(cards.find(arguments.model, folder), arguments, folder))
    load = f"{arguments.encoding}, {arguments.connections} connections, {arguments.seconds:g} s"
    print(f"{arguments.model}, {load}; {title(machine)}")
    print_profiles(threads, arguments.rows)
    functions = {
        name: {"samples": profile.samples, "self": profile.alone, "with_callees": profile.inclusive}
        for name, profile in threads.items()
    }
    write_json(arguments.json, machine, model=arguments.model, threads=functions)


if __name__ == "__main__":
    main()

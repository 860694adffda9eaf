"""Latency of live frames into a slower device: `python -m bench.live`.

A client sends frames to WS /detect/live at a steady rate, whatever the service does, and each answer's age
counts from the moment its frame was sent. Whoever queued every frame would fall behind without end; here the
newest wins, so the age should stay under two device times (the frame's own and that of the one before) and
the last answers be as young as the first. The service runs as a process of its own; `--size` makes the device
slower than the camera.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect

from bench.harness import pictures
from bench.harness.machine import describe_machine, title
from bench.harness.options import command_line, write_json
from bench.harness.processes import free_port, running
from bench.harness.service import environment, ready, serve_command


@dataclass(frozen=True)
class Answered:
    """One answer: milliseconds since its frame was sent, and what the service says of its time."""

    age_ms: float
    device_ms: float  # with decoding


@dataclass(frozen=True)
class Figures:
    """What came of a run; a device time is decoding and detection of one frame, the median."""

    frames_sent: int
    answers: int
    dropped: int
    device_ms: float
    p50_ms: float
    p99_ms: float
    slowest_ms: float
    first_half_p50_ms: float
    second_half_p50_ms: float
    most_device_times: float  # the worst age over the mean of the frame's own device time and the one before


async def film(port: int, image: bytes, given: argparse.Namespace) -> Figures:
    """Send frames at the rate for so many seconds, and collect the answers."""
    url = f"ws://127.0.0.1:{port}/detect/live?size={given.size}"
    async with connect(url, max_size=None, compression=None) as socket:
        sent: list[float] = []
        found: list[Answered] = []
        answers = asyncio.create_task(_collect(socket, sent, found))
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(round(given.seconds * given.rate)):
            await asyncio.sleep(max(0.0, began + number / given.rate - loop.time()))
            sent.append(loop.time())
            await socket.send(image)
        await asyncio.wait({answers}, timeout=10 * given.seconds)
        return figures(found, len(sent), answers.result())


async def _collect(socket: ClientConnection, sent: list[float], found: list[Answered]) -> int:
    """Answers until the newest frame's; how many were dropped."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            answer = json.loads(await asyncio.wait_for(socket.recv(), 5))
        except TimeoutError:
            return len(sent) - len(found)
        if "error" in answer:
            raise RuntimeError(answer["error"]["detail"])
        spent = answer["timings_ms"]
        found.append(
            Answered(
                (loop.time() - sent[answer["frame"]]) * 1e3,
                spent["decode"] + spent["inference"] + spent["postprocess"],
            )
        )


def figures(found: list[Answered], sent: int, dropped: int) -> Figures:
    """The figures of a run, without its first three answers: they warm up."""
    rest = found[3:]
    ages = [one.age_ms for one in rest]
    half = len(ages) // 2
    ranked = sorted(ages)
    return Figures(
        frames_sent=sent,
        answers=len(found),
        dropped=dropped,
        device_ms=statistics.median(one.device_ms for one in rest),
        p50_ms=statistics.median(ages),
        p99_ms=ranked[min(len(ranked) - 1, round(0.99 * len(ranked)))],
        slowest_ms=ranked[-1],
        first_half_p50_ms=statistics.median(ages[:half]),
        second_half_p50_ms=statistics.median(ages[half:]),
        most_device_times=max(
            2 * one.age_ms / (before.device_ms + one.device_ms) for before, one in pairwise(rest)
        ),
    )


def table(one: Figures, heading: str) -> Table:
    """The figures, a row each."""
    shown = Table("what", "value", title=heading)
    for name, value in asdict(one).items():
        shown.add_row(name.replace("_", " "), f"{value:.2f}" if value < 10 else f"{value:.0f}")
    return shown


def main() -> None:
    """Print the figures, and write them where --json says."""
    parser = command_line(__doc__)
    parser.add_argument("--model", default="shapes", help="name or path of a card")
    parser.add_argument("--rate", type=float, default=30, help="frames a second")
    parser.add_argument("--seconds", type=float, default=20, help="of filming")
    parser.add_argument("--size", type=int, default=1000, help="short side that the network sees, in pixels")
    given = parser.parse_args()
    port, machine = free_port(), describe_machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        image = pictures.write(Path(folder) / "scene.jpg").read_bytes()
        with running(serve_command(), environment(port, model=given.model), lambda: ready(port), 240):
            found = asyncio.run(film(port, image, given))
    heading = f"{given.model} at {given.size} px, {given.rate:g} frames/s; {title(machine)}"
    Console(width=150).print(table(found, heading))
    everything = {"machine": machine, "arguments": {**vars(given), "json": None}}
    write_json(given.json, {**everything, "figures": asdict(found)})


if __name__ == "__main__":
    main()

"""Latency of live frames into a slower device: `python -m bench.live`.

A client sends frames to WS /detect/live at a steady rate, whatever the service does. The age of an answer
counts from the moment its frame was sent. A service that queued every frame would fall behind without end;
this one takes the newest frame, so the age should stay under two device times (the frame's own and that of
the one before), and the last answers should be as young as the first. `--size` makes the device slower than
the camera.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from websockets.asyncio.client import ClientConnection, connect

from bench.harness import pictures
from bench.harness.machine import describe_machine, title
from bench.harness.measuring import percentile
from bench.harness.options import command_line, print_table, write_json
from bench.harness.service import serving

WARM_UP = 3  # answers


@dataclass(frozen=True)
class FrameAnswer:
    """One answer: milliseconds since its frame was sent, and the service's own time for it."""

    age_ms: float
    device_ms: float  # with decoding


async def film(port: int, image: bytes, arguments: argparse.Namespace) -> dict[str, float]:
    """Send frames at the rate for so many seconds, and collect the answers."""
    url = f"ws://127.0.0.1:{port}/detect/live?size={arguments.size}"
    async with connect(url, max_size=None, compression=None) as socket:
        sent: list[float] = []
        answers: list[FrameAnswer] = []
        collecting = asyncio.create_task(_collect(socket, sent, answers))
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number in range(round(arguments.seconds * arguments.rate)):
            await asyncio.sleep(max(0.0, started + number / arguments.rate - loop.time()))
            sent.append(loop.time())
            await socket.send(image)
        await asyncio.wait({collecting}, timeout=10 * arguments.seconds)
        collecting.result()
        return summarize(answers, len(sent))


async def _collect(socket: ClientConnection, sent: list[float], answers: list[FrameAnswer]) -> None:
    """Collect answers until none comes for 5 s."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            answer = json.loads(await asyncio.wait_for(socket.recv(), 5))
        except TimeoutError:
            return
        if "error" in answer:
            raise RuntimeError(answer["error"]["detail"])
        times = answer["timings_ms"]
        age = (loop.time() - sent[answer["frame"]]) * 1e3
        answers.append(FrameAnswer(age, times["decode"] + times["inference"] + times["postprocess"]))


def summarize(answers: Sequence[FrameAnswer], sent: int) -> dict[str, float]:
    """The run without its first answers, which warm up.

    `most_device_times` is the worst age over the mean of the frame's own device time and the one before.
    """
    counted = answers[WARM_UP:]
    ages, half = [answer.age_ms for answer in counted], len(counted) // 2
    ratios = [2 * new.age_ms / (old.device_ms + new.device_ms) for old, new in pairwise(counted)]
    return {
        "frames_sent": sent,
        "answers": len(answers),
        "dropped": sent - len(answers),
        "device_ms": median(answer.device_ms for answer in counted),
        "p50_ms": median(ages),
        "p99_ms": percentile(ages, 0.99),
        "slowest_ms": max(ages),
        "first_half_p50_ms": median(ages[:half]),
        "second_half_p50_ms": median(ages[half:]),
        "most_device_times": max(ratios),
    }


def main() -> None:
    """Print the numbers of the run, a row each."""
    parser = command_line(__doc__)
    parser.add_argument("--model", default="shapes", help="name or path of a card")
    parser.add_argument("--rate", type=float, default=30, help="frames a second")
    parser.add_argument("--seconds", type=float, default=20, help="of filming")
    parser.add_argument("--size", type=int, default=1000, help="short side that the network sees, in pixels")
    arguments, machine = parser.parse_args(), describe_machine()
    with serving(model=arguments.model) as (target, _):
        result = asyncio.run(film(target.port, pictures.jpeg(), arguments))
    heading = f"{arguments.model} at {arguments.size} px, {arguments.rate:g} frames/s; {title(machine)}"
    rows = [{"name": name.replace("_", " "), "value": value} for name, value in result.items()]
    print_table(heading, {"what": "{name}", "value": "{value:.4g}"}, rows)
    write_json(arguments.json, machine, arguments={**vars(arguments), "json": None}, figures=result)


if __name__ == "__main__":
    main()

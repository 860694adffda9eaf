"""The model of the fleet beside two replicas: `python -m bench.capacity.two_replicas` in a venv that has Ray.

Their devices are stand-ins that take as long as measured batches did, stretched, and compute nothing: two
cores cannot hold two devices, Ray's proxy and the load. All else is real: Ray and its balancer, the service
in each replica, decoding, sockets. What a request spends outside of its batch is measured first, with a
device that takes no time.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from app.distributed.ray_serve import RayReplica, build_of
from app.serving.loading import load
from app.settings.settings import Settings
from bench.capacity.fleet import Rules
from bench.capacity.simulate import COMPARED, compared_rows, print_table, with_table
from bench.capacity.validation import AIM, Compared, Round, compared, plans, within
from bench.harness import pictures
from bench.harness.load import Asker, Plan, Target, measure
from bench.harness.machine import describe_machine, title
from bench.harness.options import command_line, write_json
from bench.harness.ray_cluster import cluster
from bench.harness.stand_in import Batches, StandIn
from bench.harness.times import TIMES, ServiceTimes, read_times, stretched

REPLICAS = 2


class Stand(RayReplica):
    """A replica with such a device."""

    def __init__(self, settings: Settings, ledger: Any, batches: Batches) -> None:
        super().__init__(settings, ledger, StandIn(load(settings), batches))


def outside(image: Path, given: argparse.Namespace) -> list[float]:
    """Seconds of requests, one after the other, that the device takes no time for."""
    with cluster(build=_with({1: [0.0]}), model=given.model, replicas=1, threads=1) as url:
        target = Target(_port(url))
        measure(target, [image], Plan(1, 3.0))  # warm-up
        asker = Asker(target, [image.read_bytes()], Plan(1, given.seconds / 3))
        return list(asyncio.run(asker.run()).latencies)


def compare(image: Path, given: argparse.Namespace) -> list[Compared]:
    """Each load on two replicas, and in the model of them."""
    times = stretched(read_times(given.times), given.slower)
    times = ServiceTimes(times.batches, outside(image, given))
    settings = {"model": given.model, "max_queue": given.max_queue, "replicas": REPLICAS, "threads": 1}
    with cluster(build=_with(times.batches), **settings) as url:
        target = Target(_port(url))
        measure(target, [image], Plan(8, 3.0))  # warm-up
        rounds = [
            Round(times, {load: (plan, measure(target, [image], plan)) for load, plan in loads})
            for loads in (
                plans(REPLICAS * times.capacity, given.seconds, number) for number in range(given.rounds)
            )
        ]
    return compared(rounds, ray_rules(max(times.batches), given.max_queue), REPLICAS)


def ray_rules(max_batch: int, max_queue: int) -> Rules:
    """Of two choices, in front of which a queue holds as many as all replicas do until their time is up."""
    rules = Rules(max_batch=max_batch, max_queue=max_queue, balancer="two", elsewhere=True)
    return replace(rules, door_places=max_queue, door_seconds=rules.timeout)


def _with(batches: Batches) -> Callable[[Any], Any]:
    return partial(_build, batches)


def _build(batches: Batches, arguments: Any) -> Any:
    return build_of(Stand, arguments, batches)


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def main() -> int:
    """Print the table; 1 where the model is not within the aim."""
    given, machine = _arguments(), describe_machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        found = compare(pictures.write(Path(folder) / "scene.jpg"), given)
    rows = compared_rows(found)
    print_table(rows, f"{REPLICAS} replicas on Ray and the model; {title(machine)}", COMPARED)
    print(f"throughput and p99 within {AIM:.0%}: {'yes' if within(found) else 'no'}")
    if given.page:
        given.page.write_text(with_table(given.page.read_text(), "validated-ray", rows, COMPARED))
    write_json(given.json, {"machine": machine, "runs": [asdict(one) for one in found]})
    return 0 if within(found) else 1


def _arguments() -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--seconds", type=float, default=45, help="of each load")
    parser.add_argument("--rounds", type=int, default=3, help="of whose figures medians count")
    parser.add_argument(
        "--slower", type=float, default=5, help="times as slow as the device that was measured"
    )
    parser.add_argument(
        "--times", type=Path, default=TIMES, help="service times, as bench.capacity.simulate saved them"
    )
    parser.add_argument("--max-queue", type=int, default=64)
    parser.add_argument("--page", type=Path, help="a page whose table is replaced")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

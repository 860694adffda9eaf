"""The model of the fleet beside two replicas: `python -m bench.capacity.two_replicas` in a venv that has Ray.

Their devices are stand-ins that take as long as measured batches did, times --slower, and compute nothing:
two cores cannot hold two devices, Ray's proxy and the load. Everything else is real: Ray and its balancer,
the service in each replica, decoding, sockets. What a request spends outside of its batch is measured first,
with a device that takes no time.
"""

import argparse
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
from bench.capacity.fleet import FleetConfig
from bench.capacity.validation import (
    ModelComparison,
    ValidationRound,
    compare,
    is_within,
    plans,
    report,
    single_requests,
)
from bench.harness import pictures
from bench.harness.load import LoadPlan, Target, measure
from bench.harness.machine import describe_machine
from bench.harness.options import command_line, write_json
from bench.harness.ray_cluster import cluster, port_of
from bench.harness.stand_in import Batches, StandInDetector
from bench.harness.times import TIMES, ServiceTimes, read_times, slowed_down

REPLICAS = 2


class StandInReplica(RayReplica):
    """A replica with a stand-in for its device."""

    def __init__(self, settings: Settings, ledger: Any, batches: Batches) -> None:
        super().__init__(settings, ledger, StandInDetector(load(settings), batches))


def measure_outside(image: Path, arguments: argparse.Namespace) -> list[float]:
    """Seconds of requests, one after the other, with a device that takes no time."""
    with cluster(build=_build_with({1: [0.0]}), model=arguments.model, replicas=1, threads=1) as url:
        target = Target(port_of(url))
        measure(target, [image], LoadPlan(1, 3.0))  # warm-up
        return single_requests(target, image, arguments.seconds / 3)


def compare_replicas(image: Path, arguments: argparse.Namespace) -> list[ModelComparison]:
    """Each load on two replicas, and in the model of them."""
    times = slowed_down(read_times(arguments.times), arguments.slower)
    times = ServiceTimes(times.batches, measure_outside(image, arguments))
    settings = {"model": arguments.model, "max_queue": arguments.max_queue, "threads": 1}
    with cluster(build=_build_with(times.batches), replicas=REPLICAS, **settings) as url:
        target = Target(port_of(url))
        measure(target, [image], LoadPlan(8, 3.0))  # warm-up
        rounds = []
        for number in range(arguments.rounds):
            loads = plans(REPLICAS * times.capacity, arguments.seconds, number).items()
            measured = {load: (plan, measure(target, [image], plan)) for load, plan in loads}
            rounds.append(ValidationRound(times, measured))
    return compare(rounds, ray_config(max(times.batches), arguments.max_queue), REPLICAS)


def ray_config(max_batch: int, max_queue: int) -> FleetConfig:
    """The emptier of two; one queue before all replicas, in which requests wait until they time out."""
    config = FleetConfig(max_batch=max_batch, max_queue=max_queue, balancer="two", retry_elsewhere=True)
    return replace(config, wait_slots=max_queue, wait_seconds=config.timeout)


def _build_with(batches: Batches) -> Callable[[Any], Any]:
    return partial(_build, batches)


def _build(batches: Batches, arguments: Any) -> Any:
    return build_of(StandInReplica, arguments, batches)


def main() -> int:
    """Print the table; 1 if the model is not within the aim."""
    arguments, machine = _arguments(), describe_machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        comparisons = compare_replicas(pictures.write(Path(folder) / "scene.jpg"), arguments)
    heading = f"{REPLICAS} replicas on Ray and the model"
    report(comparisons, heading, machine, arguments.page, "validated-ray")
    write_json(arguments.json, machine, runs=[asdict(one) for one in comparisons])
    return 0 if is_within(comparisons) else 1


def _arguments() -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--seconds", type=float, default=45, help="of each load")
    parser.add_argument("--rounds", type=int, default=3, help="medians count")
    parser.add_argument("--slower", type=float, default=5, help="factor on the times of the device")
    parser.add_argument("--times", type=Path, default=TIMES, help="as bench.capacity.simulate saved them")
    parser.add_argument("--max-queue", type=int, default=64)
    parser.add_argument("--page", type=Path, help="a page whose table is replaced")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

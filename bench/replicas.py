"""Replicas on Ray Serve, on this machine: `python -m bench.replicas` in a venv that has Ray.

Images/s of two replicas with one thread each, over those of one, in turns. With --pin each replica has a core
of its own, as a cluster gives each its CPU. Without it, a single replica decodes on the other core.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from bench.harness.load import LoadPlan, Target, measure
from bench.harness.machine import describe_machine
from bench.harness.measuring import interleaved
from bench.harness.options import command_line, write_json
from bench.harness.pictures import write
from bench.harness.ray_cluster import cluster, pin, port_of

TARGET_RATIO = 1.7


def images_per_second(replicas: int, arguments: argparse.Namespace, _: int) -> float:
    """Images/s of so many replicas with a thread each, warm; raises RuntimeError for any error."""
    path = "/detect" + (f"?size={arguments.size}" if arguments.size else "")
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster(model="shapes", replicas=replicas, threads=1) as url,
    ):
        if arguments.pin:
            pin()
        target, images = Target(port_of(url), path), [write(Path(folder) / "image.jpg")]
        measure(target, images, LoadPlan(arguments.clients, arguments.seconds / 4))
        result = measure(target, images, LoadPlan(arguments.clients, arguments.seconds))
    if result.errors:
        raise RuntimeError(f"{replicas} replica(s): errors by status: {result.errors}")
    print(f"{replicas} replica(s): {result.images_per_second:.1f} images/s", flush=True)
    return result.images_per_second


def main() -> int:
    """Print images/s of one and of two replicas, and their ratio; 1 if it is below the target."""
    parser = command_line(__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=0, help="short side for the network; 0: the model's own")
    parser.add_argument("--pin", action="store_true", help="each replica on a core of its own")
    arguments = parser.parse_args()
    variants = {count: partial(images_per_second, count, arguments) for count in (1, 2)}
    rates = interleaved(variants, range(arguments.rounds))
    ratio = median(rates[2]) / median(rates[1])
    print(f"two over one: {ratio:.3f}, target {TARGET_RATIO}")
    write_json(arguments.json, describe_machine(), images_per_second=rates, ratio=ratio)
    return 0 if ratio >= TARGET_RATIO else 1


if __name__ == "__main__":
    raise SystemExit(main())

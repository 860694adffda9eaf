"""Replicas on Ray Serve, on this machine: `python -m bench.replicas` in a venv that has Ray.

Images/s of two replicas with one thread each, over those of one, in turns. With --pin each has a core of its
own, as a cluster gives each its CPU: else the one decodes on the core that the other will have. `cluster` and
`Crowd` are what tests/process/test_ray.py uses too.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from bench.harness.load import Plan, Target, measure
from bench.harness.pictures import write
from bench.harness.ray_cluster import cluster, pin

WANTED_RATIO = 1.7


def measured(replicas: int, given: argparse.Namespace) -> float:
    """Images/s of so many replicas with a thread each, warm; raises RuntimeError for any error."""
    path = "/detect" + (f"?size={given.size}" if given.size else "")
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster(model="shapes", replicas=replicas, threads=1) as url,
    ):
        if given.pin:
            pin()
        target = Target(int(url.rpartition(":")[2]), path)
        images = [write(Path(folder) / "image.jpg")]
        measure(target, images, Plan(given.clients, given.seconds / 4))
        found = measure(target, images, Plan(given.clients, given.seconds))
    if found.errors:
        raise RuntimeError(f"{replicas} replica(s): errors by status: {found.errors}")
    return found.images_per_second


def main() -> None:
    """Print images/s of one and of two replicas, and the ratio of their medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=0, help="short side for the network; 0: the model's own")
    parser.add_argument("--pin", action="store_true", help="each replica on a core of its own")
    given = parser.parse_args()
    found: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(given.rounds):
        for count in found:
            found[count].append(measured(count, given))
            print(f"{count} replica(s): {found[count][-1]:.1f} images/s", flush=True)
    ratio = statistics.median(found[2]) / statistics.median(found[1])
    print(json.dumps({"images_per_second": found, "ratio": round(ratio, 3), "wanted": WANTED_RATIO}))
    raise SystemExit(0 if ratio >= WANTED_RATIO else 1)


if __name__ == "__main__":
    main()

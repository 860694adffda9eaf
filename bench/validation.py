"""The model of bench/fleet.py beside the real server: its service times, then the same arrivals in both."""

import asyncio
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from bench import pictures
from bench.arrivals import due_times
from bench.fleet import Fleet, Outcome, Rules, ServiceTimes
from bench.load import Asker, Figures, Plan, Tally, Target, figures, measure
from bench.overload import MOST_CONNECTIONS, environment, ready
from bench.processes import free_port, running
from bench.recorded import Batch, read

CLOSED, BEYOND = 16, 1.2  # connections of a closed loop; what is asked of it to find the capacity
AHEAD = (0.4, 0.7, 1.0)  # shares of it that the service times are measured at, by arrivals of their own
FACTORS = (0.5, 0.8, 1.2)
START_PATIENCE = 240.0
LEAST = 0.3  # of a batch is its own, whatever was prepared meanwhile
IDLE = 0.003  # seconds without a batch; shorter ones are the turn from one to the next
DRAWS = 5  # runs of the model, of which the middle one counts
AIM = 0.1  # how far the model may be from the server


@dataclass(frozen=True)
class Compared:
    """One load in both: what the server did, what the model says."""

    load: str
    rate: float
    real: Figures
    model: Figures

    def off(self, name: str) -> float:
        """How far the model is from the server, as a share of the server's figure."""
        return float(getattr(self.model, name) / getattr(self.real, name) - 1)


def as_tally(outcome: Outcome) -> Tally:
    """What the load generator would have counted."""
    return Tally(list(outcome.latencies), list(outcome.finished), outcome.statuses)


def modelled(times: ServiceTimes, rules: Rules, plan: Plan, replicas: int = 1) -> Figures:
    """The plan's open loop in the model: of several draws the one with the middle p99."""
    found = []
    for draw in range(DRAWS):
        fleet = Fleet(times, rules, replicas, seed=draw + 1)
        outcome = fleet.run(due_times(plan.rate, plan.seconds, plan.seed))
        found.append(figures(as_tally(outcome), plan))
    return sorted(found, key=lambda one: one.p99_ms)[DRAWS // 2]


class Bench:
    """The real server, on a port, with its notebook."""

    def __init__(self, port: int, notebook: Path, image: Path) -> None:
        self._target, self._notebook, self._image = Target(port), notebook, image

    def ask(self, plan: Plan) -> Figures:
        """By a generator in a process of its own."""
        return measure(self._target, [self._image], plan)

    def service_times(self, seconds: float) -> ServiceTimes:
        """Batches under open loops; what a lone request spends outside of its batch."""
        self.ask(Plan(8, 3.0))  # warm-up
        outside = self._outside(seconds)
        capacity = self.capacity(seconds)
        first = len(read(self._notebook))
        for share in AHEAD:
            plan = Plan(MOST_CONNECTIONS, 3 * seconds, rate=share * capacity, seed=round(100 * share))
            self.ask(plan)
        return service_times(read(self._notebook, first), outside)

    def capacity(self, seconds: float) -> float:
        """Answers a second where more is asked than the server can, which it has to refuse too."""
        most = self.ask(Plan(CLOSED, seconds)).images_per_second
        return self.ask(Plan(MOST_CONNECTIONS, seconds, rate=BEYOND * most)).images_per_second

    def _outside(self, seconds: float) -> list[float]:
        first = len(read(self._notebook))
        asker = Asker(self._target, [self._image.read_bytes()], Plan(1, seconds))
        latencies = asyncio.run(asker.run()).latencies
        batches = [batch.seconds for batch in read(self._notebook, first)]
        return [whole - taken for whole, taken in zip(latencies, batches, strict=True)]


def service_times(found: Sequence[Batch], outside: Sequence[float]) -> ServiceTimes:
    """Batches apart by size, and by whether they followed another: then the turn to them is theirs too.

    What images that were prepared meanwhile took from them is told apart.
    """
    following, fresh, stolen = defaultdict(list), defaultdict(list), per_arrival(found)
    for batch in found:
        alone = max(batch.seconds - stolen * batch.prepared, LEAST * batch.seconds)
        if batch.idle > IDLE:
            fresh[batch.size].append(alone)
        else:
            following[batch.size].append(alone + batch.idle)
    return ServiceTimes(dict(sorted(following.items())), outside, dict(sorted(fresh.items())), stolen)


def per_arrival(found: Sequence[Batch]) -> float:
    """Seconds that each image prepared meanwhile adds to a batch: the slope within the sizes, or 0."""
    sizes = defaultdict(list)
    for batch in found:
        sizes[batch.size].append(batch)
    both, square = 0.0, 0.0
    for batches in sizes.values():
        images, seconds = (
            fmean(one) for one in zip(*((b.prepared, b.seconds) for b in batches), strict=True)
        )
        both += sum((batch.prepared - images) * (batch.seconds - seconds) for batch in batches)
        square += sum((batch.prepared - images) ** 2 for batch in batches)
    return max(0.0, both / square) if square else 0.0


def validate(model: str, seconds: float, rules: Rules) -> tuple[ServiceTimes, list[Compared]]:
    """Service times, then each load in both; raises NotStarted."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        notebook = Path(folder) / "batches"
        image, port = pictures.write(Path(folder) / "scene.jpg"), free_port()
        command = [sys.executable, "-m", "bench.recorded", str(notebook)]
        settings = {"model": model, "max_queue": str(rules.max_queue), "max_batch": str(rules.max_batch)}
        settings["timeout_ms"] = str(round(rules.timeout * 1000))
        with running(command, environment(port, **settings), lambda: ready(port), START_PATIENCE):
            bench = Bench(port, notebook, image)
            times = bench.service_times(max(2.0, seconds / 6))
            capacity = bench.capacity(seconds / 2)
            plans = {
                f"{factor:g}x": Plan(MOST_CONNECTIONS, seconds, rate=factor * capacity, seed=7 + index)
                for index, factor in enumerate(FACTORS)
            }
            real = {load: bench.ask(plan) for load, plan in plans.items()}
    return times, [
        Compared(load, plan.rate, real[load], modelled(times, rules, plan)) for load, plan in plans.items()
    ]


def write_times(path: Path, times: ServiceTimes, everything: dict[str, object]) -> None:
    """The service times as JSON, with what they belong to."""
    rounded: dict[str, object] = {
        name: {size: [round(one, 5) for one in found] for size, found in by_size.items()}
        for name, by_size in (("batches", times.batches), ("fresh", times.fresh))
    }
    rounded["per_arrival"] = round(times.per_arrival, 6)
    rounded["outside"] = [round(one, 5) for one in times.outside]
    path.write_text(json.dumps({**everything, **rounded}) + "\n")


def read_times(path: Path) -> ServiceTimes:
    """The same, read back; sizes are numbers again."""
    found = json.loads(path.read_text())
    batches, fresh = (
        {int(size): tuple(seconds) for size, seconds in found[name].items()} for name in ("batches", "fresh")
    )
    return ServiceTimes(batches, tuple(found["outside"]), fresh, found.get("per_arrival", 0.0))


def within(found: Sequence[Compared], aim: float = AIM) -> bool:
    """Whether throughput and p99 agree at every load."""
    return all(abs(one.off(name)) <= aim for one in found for name in ("images_per_second", "p99_ms"))

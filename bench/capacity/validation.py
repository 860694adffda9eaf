"""The model of the fleet beside the real server: its service times, then the same arrivals in both.

In rounds, each with service times of its own: those of another minute are those of another machine.
"""

import asyncio
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from bench.capacity.fleet import Fleet, Outcome, Rules
from bench.harness import pictures
from bench.harness.arrivals import due_times
from bench.harness.load import Asker, Figures, Plan, Tally, Target, figures, measure, middle
from bench.harness.processes import free_port, running
from bench.harness.recorded import Batch, read
from bench.harness.service import MOST_CONNECTIONS, environment, ready
from bench.harness.times import ServiceTimes

CLOSED, BEYOND = 16, 1.2  # connections of a closed loop; the share of it that is asked to find the capacity
AHEAD = (0.4, 0.7, 1.0, BEYOND)  # shares of it for the service times; beyond 1 refusals cost them something
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
    """The plan's open loop in the model: the middle of several draws."""
    found = []
    for draw in range(DRAWS):
        fleet = Fleet(times, rules, replicas, seed=draw + 1)
        outcome = fleet.run(due_times(plan.rate, plan.seconds, plan.seed))
        found.append(figures(as_tally(outcome), plan))
    return sorted(found, key=lambda one: one.p99_ms)[DRAWS // 2]


def plans(capacity: float, seconds: float, number: int) -> Iterator[tuple[str, Plan]]:
    """The loads of that round, each with arrivals of its own."""
    for index, factor in enumerate(FACTORS):
        seed = 7 + index + 1000 * number
        yield f"{factor:g}x", Plan(MOST_CONNECTIONS, seconds, rate=factor * capacity, seed=seed)


@dataclass(frozen=True)
class Round:
    """What was measured together: service times, and what each load's plan came to."""

    times: ServiceTimes
    real: Mapping[str, tuple[Plan, Figures]]


class Bench:
    """The real server, on a port, with its notebook."""

    def __init__(self, port: int, notebook: Path, image: Path) -> None:
        self._target, self._notebook, self._image = Target(port), notebook, image

    def ask(self, plan: Plan) -> Figures:
        """By a generator in a process of its own."""
        return measure(self._target, [self._image], plan)

    def warm_up(self) -> None:
        """A few seconds that do not count."""
        self.ask(Plan(8, 3.0))

    def round(self, seconds: float, number: int) -> Round:
        """Service times, by arrivals of their own, then each load; all at shares of this round's capacity."""
        outside = self._outside(seconds / 4)
        capacity = self._capacity(seconds / 2)
        first = len(read(self._notebook))
        for share in AHEAD:
            seed = round(100 * share) + 1000 * number
            self.ask(Plan(MOST_CONNECTIONS, seconds / 2, rate=share * capacity, seed=seed))
        times = service_times(read(self._notebook, first), outside)
        return Round(times, {load: (plan, self.ask(plan)) for load, plan in plans(capacity, seconds, number)})

    def _capacity(self, seconds: float) -> float:
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


def validate(
    model: str, seconds: float, rounds: int, rules: Rules, device: Sequence[str] = ()
) -> tuple[ServiceTimes, list[Compared]]:
    """Service times of all rounds, and each load in both; raises NotStarted.

    `device`: what tells bench.harness.recorded of a stand-in for it.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        notebook = Path(folder) / "batches"
        image, port = pictures.write(Path(folder) / "scene.jpg"), free_port()
        command = [sys.executable, "-m", "bench.harness.recorded", str(notebook), *device]
        settings = {"model": model, "max_queue": str(rules.max_queue), "max_batch": str(rules.max_batch)}
        settings["timeout_ms"] = str(round(rules.timeout * 1000))
        with running(command, environment(port, **settings), lambda: ready(port), START_PATIENCE):
            bench = Bench(port, notebook, image)
            bench.warm_up()
            found = [bench.round(seconds, number) for number in range(rounds)]
    return pooled([one.times for one in found]), compared(found, rules)


def pooled(found: Sequence[ServiceTimes]) -> ServiceTimes:
    """The service times of several rounds as one."""
    return ServiceTimes(
        batches=_together([one.batches for one in found]),
        outside=[seconds for one in found for seconds in one.outside],
        fresh=_together([one.fresh for one in found]),
        per_arrival=fmean(one.per_arrival for one in found),
    )


def _together(found: Sequence[Mapping[int, Sequence[float]]]) -> dict[int, list[float]]:
    sizes = sorted({size for one in found for size in one})
    return {size: [seconds for one in found for seconds in one.get(size, ())] for size in sizes}


def compared(found: Sequence[Round], rules: Rules, replicas: int = 1) -> list[Compared]:
    """Each load: the middle of its rounds, and of the model with each round's own service times."""
    comparisons = []
    for load in found[0].real:
        plans, real = zip(*(one.real[load] for one in found), strict=True)
        model = [modelled(one.times, rules, plan, replicas) for one, plan in zip(found, plans, strict=True)]
        rate = median(plan.rate for plan in plans)
        comparisons.append(Compared(load, rate, middle(real), middle(model)))
    return comparisons


def within(found: Sequence[Compared], aim: float = AIM) -> bool:
    """Whether throughput and p99 agree at every load."""
    return all(abs(one.off(name)) <= aim for one in found for name in ("images_per_second", "p99_ms"))

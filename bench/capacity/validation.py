"""The model of the fleet beside the real server: its service times, then the same arrivals in both.

In rounds, each with service times of its own, because the machine is faster in one minute than in the next.
"""

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from bench.capacity.fleet import Fleet, FleetConfig, FleetResult
from bench.harness import pictures
from bench.harness.arrivals import due_times
from bench.harness.load import LoadGenerator, LoadPlan, LoadResult, Tally, Target, combine, measure, summarize
from bench.harness.machine import Machine, title
from bench.harness.options import Columns, print_table, replace_table
from bench.harness.recorded import BatchRecord, read_records
from bench.harness.service import MOST_CONNECTIONS, recorded_command, serving
from bench.harness.times import ServiceTimes

CLIENTS, OVERLOAD = 16, 1.2  # of the closed loop; the share of its rate at which the capacity is measured
CALIBRATION = (0.4, 0.7, 1.0, OVERLOAD)  # loads for the service times; beyond 1 refusals cost time too
LOADS = (0.5, 0.8, 1.2)
LEAST_SHARE = 0.3  # of a batch's time that is its own, whatever was prepared meanwhile
IDLE_SECONDS = 0.003  # without a batch; shorter pauses are the turn from one batch to the next
DRAWS = 5  # runs of the model, of which the median counts
AIM = 0.1  # largest relative error of the model
COLUMNS: Columns = {
    "load": "{load}",
    "offered/s": "{rate:.1f}",
    "answered/s": "{server.images_per_second:.1f}",
    "model answered/s": "{model.images_per_second:.1f}",
    "off": lambda row: f"{row['comparison'].relative_error('images_per_second'):+.1%}",
    "p50": "{server.p50_ms:.0f}",
    "model p50": "{model.p50_ms:.0f}",
    "p99": "{server.p99_ms:.0f}",
    "model p99": "{model.p99_ms:.0f}",
    "p99 off": lambda row: f"{row['comparison'].relative_error('p99_ms'):+.1%}",
    "refused": "{server.error_count}",
    "model refused": "{model.error_count}",
}


@dataclass(frozen=True)
class ModelComparison:
    """One load on the server and in the model."""

    load: str
    rate: float
    server: LoadResult
    model: LoadResult

    def relative_error(self, name: str) -> float:
        """Of one of the model's numbers."""
        return float(getattr(self.model, name) / getattr(self.server, name) - 1)


@dataclass(frozen=True)
class ValidationRound:
    """Service times, and each load's plan and result on the server, measured together."""

    times: ServiceTimes
    loads: Mapping[str, tuple[LoadPlan, LoadResult]]


def as_tally(result: FleetResult) -> Tally:
    """What the load generator would have counted."""
    return Tally(list(result.latencies), list(result.finished), result.statuses)


def simulate(times: ServiceTimes, config: FleetConfig, plan: LoadPlan, replicas: int = 1) -> LoadResult:
    """The plan's open loop in the model: the median of several draws, by p99."""
    results = []
    for draw in range(DRAWS):
        fleet = Fleet(times, config, replicas, seed=draw + 1)
        arrivals = due_times(plan.rate, plan.seconds, plan.seed)
        results.append(summarize(as_tally(fleet.run(arrivals)), plan))
    return sorted(results, key=lambda result: result.p99_ms)[DRAWS // 2]


def plans(capacity: float, seconds: float, number: int) -> dict[str, LoadPlan]:
    """The loads of that round, each with arrivals of its own."""
    return {
        f"{load:g}x": LoadPlan(
            MOST_CONNECTIONS, seconds, rate=load * capacity, seed=7 + index + 1000 * number
        )
        for index, load in enumerate(LOADS)
    }


class RecordedServer:
    """The real server, and the file with the records of its batches."""

    def __init__(self, target: Target, records: Path, image: Path) -> None:
        self._target, self._records, self._image = target, records, image

    def send(self, plan: LoadPlan) -> LoadResult:
        """By a generator in a process of its own."""
        return measure(self._target, [self._image], plan)

    def round(self, seconds: float, number: int) -> ValidationRound:
        """Service times, by arrivals of their own, then each load; all at shares of this round's capacity."""
        outside = self._outside(seconds / 4)
        capacity = self._capacity(seconds / 2)
        first = len(read_records(self._records))
        for load in CALIBRATION:
            seed = round(100 * load) + 1000 * number
            self.send(LoadPlan(MOST_CONNECTIONS, seconds / 2, rate=load * capacity, seed=seed))
        times = service_times(read_records(self._records, first), outside)
        loads = plans(capacity, seconds, number)
        return ValidationRound(times, {load: (plan, self.send(plan)) for load, plan in loads.items()})

    def _capacity(self, seconds: float) -> float:
        """Answers a second under overload, so that the cost of refusals is included."""
        closed = self.send(LoadPlan(CLIENTS, seconds)).images_per_second
        return self.send(LoadPlan(MOST_CONNECTIONS, seconds, rate=OVERLOAD * closed)).images_per_second

    def _outside(self, seconds: float) -> list[float]:
        """Seconds of single requests outside of their batches."""
        first = len(read_records(self._records))
        latencies = single_requests(self._target, self._image, seconds)
        batches = read_records(self._records, first)
        return [latency - batch.seconds for latency, batch in zip(latencies, batches, strict=True)]


def single_requests(target: Target, image: Path, seconds: float) -> list[float]:
    """Latencies of requests one after the other, sent from this process."""
    generator = LoadGenerator(target, [image.read_bytes()], LoadPlan(1, seconds))
    return asyncio.run(generator.run()).latencies


def service_times(batches: Sequence[BatchRecord], outside: Sequence[float]) -> ServiceTimes:
    """Batch times by size, those on an idle device apart; the others include the turn from the one before.

    The share of images that were prepared meanwhile is taken out.
    """
    following, fresh, slope = defaultdict(list), defaultdict(list), per_arrival(batches)
    for batch in batches:
        alone = max(batch.seconds - slope * batch.prepared, LEAST_SHARE * batch.seconds)
        if batch.idle > IDLE_SECONDS:
            fresh[batch.size].append(alone)
        else:
            following[batch.size].append(alone + batch.idle)
    return ServiceTimes(dict(sorted(following.items())), outside, dict(sorted(fresh.items())), slope)


def per_arrival(batches: Sequence[BatchRecord]) -> float:
    """Seconds that each image prepared meanwhile adds to a batch: the slope within the sizes, at least 0."""
    sizes = defaultdict(list)
    for batch in batches:
        sizes[batch.size].append(batch)
    covariance, variance = 0.0, 0.0
    for group in sizes.values():
        prepared, seconds = fmean(b.prepared for b in group), fmean(b.seconds for b in group)
        covariance += sum((b.prepared - prepared) * (b.seconds - seconds) for b in group)
        variance += sum((b.prepared - prepared) ** 2 for b in group)
    return max(0.0, covariance / variance) if variance else 0.0


def validate(
    model: str, seconds: float, rounds: int, config: FleetConfig, stand_in: tuple[float, Path] | None = None
) -> tuple[ServiceTimes, list[ModelComparison]]:
    """Service times of all rounds, and each load in both; raises NotStarted.

    `stand_in`: how many times slower than the times in that file the device's stand-in is.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        records, image = Path(folder) / "batches", pictures.write(Path(folder) / "scene.jpg")
        command = recorded_command(records, *(stand_in or ()))
        limits = {"max_queue": config.max_queue, "max_batch": config.max_batch}
        timeout = round(config.timeout * 1000)
        with serving(command, model=model, timeout_ms=timeout, **limits) as (target, _):
            server = RecordedServer(target, records, image)
            server.send(LoadPlan(8, 3.0))  # warm-up
            results = [server.round(seconds, number) for number in range(rounds)]
    return pool([one.times for one in results]), compare(results, config)


def pool(times: Sequence[ServiceTimes]) -> ServiceTimes:
    """The service times of several rounds as one."""
    return ServiceTimes(
        batches=_by_size([one.batches for one in times]),
        outside=[seconds for one in times for seconds in one.outside],
        fresh=_by_size([one.fresh for one in times]),
        per_arrival=fmean(one.per_arrival for one in times),
    )


def _by_size(batches: Sequence[Mapping[int, Sequence[float]]]) -> dict[int, list[float]]:
    sizes = sorted({size for one in batches for size in one})
    return {size: [seconds for one in batches for seconds in one.get(size, ())] for size in sizes}


def compare(
    rounds: Sequence[ValidationRound], config: FleetConfig, replicas: int = 1
) -> list[ModelComparison]:
    """Each load: medians over the rounds, the model with each round's own service times."""
    comparisons = []
    for load in rounds[0].loads:
        plans, measured = zip(*(one.loads[load] for one in rounds), strict=True)
        pairs = zip(rounds, plans, strict=True)
        modelled = [simulate(one.times, config, plan, replicas) for one, plan in pairs]
        rate = median(plan.rate for plan in plans)
        comparisons.append(ModelComparison(load, rate, combine(measured), combine(modelled)))
    return comparisons


def is_within(comparisons: Sequence[ModelComparison], aim: float = AIM) -> bool:
    """Whether throughput and p99 agree at every load."""
    names = ("images_per_second", "p99_ms")
    return all(abs(one.relative_error(name)) <= aim for one in comparisons for name in names)


def report(
    comparisons: Sequence[ModelComparison], heading: str, machine: Machine, page: Path | None, name: str
) -> None:
    """Print the table and whether the aim is met, and replace the page's table `name`."""
    rows = [{**vars(one), "comparison": one} for one in comparisons]
    print_table(f"{heading}; {title(machine)}", COLUMNS, rows)
    print(f"throughput and p99 within {AIM:.0%}: {'yes' if is_within(comparisons) else 'no'}")
    if page:
        page.write_text(replace_table(page.read_text(), name, COLUMNS, rows))

"""What the model is asked: how many replicas hold a p99, with which balancer and scaling rule."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bench.capacity.fleet import Fleet, FleetConfig, FleetResult
from bench.capacity.scaling import Scaling
from bench.harness.arrivals import DAY_SWING, FLASH_CROWD_FACTOR, day, due_times, flash_crowd, varying_rate
from bench.harness.measuring import percentile
from bench.harness.times import ServiceTimes

REPLICAS = (1, 2, 10, 100, 1000, 10_000)
LOADS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
BALANCERS = ("random", "turns", "two")
SKIPPED_SHARE = 0.2  # of a constant load's time: the fleet starts empty
SEED = 11
TRACE_SECONDS = 3600.0
SMALL_FLEET = 4  # replicas at the beginning of a trace
IGNORED = math.inf

RULES = {
    "busy": Scaling(queue=IGNORED, wait=IGNORED),
    "queue": Scaling(busy=IGNORED, wait=IGNORED),
    "predicted wait": Scaling(busy=IGNORED, queue=IGNORED),
    "all three": Scaling(),
}
STARTS = (15.0, 60.0, 180.0)  # seconds: weights on the node; on a shared volume; a node to be added first


@dataclass(frozen=True)
class ConstantLoad:
    """A constant load on a fleet: times of answered requests, and shares of all requests."""

    replicas: int
    balancer: str
    load: float
    offered: float
    throughput: float
    p50_ms: float
    p99_ms: float
    goodput: float  # answered within the objective
    refused: float


@dataclass(frozen=True)
class ScaledTrace:
    """A trace with an autoscaler; `cost` is the mean of ready replicas over those the mean load needs."""

    trace: str
    rule: str
    start_seconds: float
    p99_ms: float
    goodput: float
    refused: float
    peak: int
    cost: float


def constant_load(
    times: ServiceTimes, config: FleetConfig, replicas: int, load: float, objective: float, most: int
) -> ConstantLoad:
    """One constant load, as a share of the devices' capacity; `most` bounds its requests."""
    offered = load * times.capacity * replicas
    # enough for a p99, and for each replica to reach a steady state
    seconds = min(most, max(20_000, 200 * replicas)) / offered
    result = Fleet(times, config, replicas, seed=SEED).run(due_times(offered, seconds, SEED))
    start = SKIPPED_SHARE * seconds
    kept = [latency for due, latency in zip(result.due, result.latencies, strict=True) if due >= start]
    finished = sum(start <= moment <= seconds for moment in result.finished)
    requests = max(1.0, result.statuses.total() * (1 - SKIPPED_SHARE))
    return ConstantLoad(
        *(replicas, config.balancer, load, offered, finished / (seconds - start)),
        *(1000 * percentile(kept, 0.5), 1000 * percentile(kept, 0.99)),
        min(1.0, sum(latency <= objective for latency in kept) / requests),
        1 - result.statuses[200] / result.requests,
    )


def constant_loads(
    times: ServiceTimes, config: FleetConfig, objective: float, sizes: Sequence[int], most: int
) -> Iterator[ConstantLoad]:
    """Every fleet, balancer and load; a single replica needs no balancer."""
    for replicas in sizes:
        for balancer in BALANCERS if replicas > 1 else BALANCERS[:1]:
            for load in LOADS:
                chosen = replace(config, balancer=balancer)
                yield constant_load(times, chosen, replicas, load, objective, most)


def highest_load(loads: Sequence[ConstantLoad], replicas: int, balancer: str, objective: float) -> float:
    """The highest load of that fleet with a p99 within the objective and without refusals, or 0."""
    fleet = [one for one in loads if (one.replicas, one.balancer) == (replicas, balancer)]
    held = [one.load for one in fleet if one.p99_ms <= 1000 * objective and one.refused == 0]
    return max(held, default=0.0)


def trace(times: ServiceTimes, name: str) -> Iterator[float]:
    """When requests are due: `day` or `crowd`."""
    mean = 0.7 * SMALL_FLEET * times.capacity
    if name == "day":
        return varying_rate(day(mean, TRACE_SECONDS), mean * (1 + DAY_SWING), TRACE_SECONDS, SEED)
    rate = flash_crowd(mean, TRACE_SECONDS)
    return varying_rate(rate, mean * FLASH_CROWD_FACTOR, TRACE_SECONDS, SEED)


def run_trace(times: ServiceTimes, config: FleetConfig, scaling: Scaling, name: str) -> FleetResult:
    """A trace from beginning to end, with an autoscaler."""
    return Fleet(times, config, SMALL_FLEET, scaling, SEED).run(trace(times, name))


def scaled_traces(
    times: ServiceTimes, config: FleetConfig, objective: float, names: Sequence[str] = ("day", "crowd")
) -> Iterator[ScaledTrace]:
    """Every trace and rule; the whole rule then with every start time."""
    variants = [(rule, STARTS[1]) for rule in RULES] + [("all three", start) for start in STARTS[::2]]
    for name in names:
        for rule, start in variants:
            result = run_trace(times, config, replace(RULES[rule], start_seconds=start), name)
            yield _scaled(result, objective, times, (name, rule, start))


def _scaled(
    result: FleetResult, objective: float, times: ServiceTimes, names: tuple[str, str, float]
) -> ScaledTrace:
    in_time = sum(latency <= objective for latency in result.latencies)
    steps = zip(result.replicas, result.replicas[1:], strict=False)
    paid = sum(count * (until - since) for (since, count), (until, _) in steps)
    return ScaledTrace(
        *names,
        1000 * percentile(result.latencies, 0.99),
        in_time / result.requests,
        result.statuses[429] / result.requests,
        max(count for _, count in result.replicas),
        paid / (result.requests / times.capacity),
    )

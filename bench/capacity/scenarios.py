"""The questions that the model answers: how many replicas hold a p99, by which balancer and rule."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bench.capacity.fleet import Fleet, Outcome, Rules
from bench.capacity.scaling import Scaling
from bench.harness.arrivals import CROWD_FACTOR, DAY_SWING, crowd, day, due_times, varying
from bench.harness.load import percentile
from bench.harness.times import ServiceTimes

REPLICAS = (1, 2, 10, 100, 1000, 10_000)
LOADS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
BALANCERS = ("random", "turns", "two")
SHARE_LEFT_OUT = 0.2  # of a constant load's time: the fleet begins empty
SEED = 11
TRACE_SECONDS = 3600.0
SMALL_FLEET = 4.0  # devices' work that the traces begin with
NEVER = math.inf

RULES = {
    "busy": Scaling(queue=NEVER, wait=NEVER),
    "queue": Scaling(busy=NEVER, wait=NEVER),
    "predicted wait": Scaling(busy=NEVER, queue=NEVER),
    "all three": Scaling(),
}
STARTS = (15.0, 60.0, 180.0)  # seconds: weights on the node; on a shared volume; a node to be added first


@dataclass(frozen=True)
class Steady:
    """A constant load on a fleet: seconds of those answered, and shares of all requests."""

    replicas: int
    balancer: str
    load: float
    offered: float
    throughput: float
    p50: float
    p99: float
    goodput: float  # answered within the objective
    refused: float


@dataclass(frozen=True)
class Scaled:
    """A trace with an autoscaler; `cost` is the mean of ready replicas over those the mean load needs."""

    trace: str
    rule: str
    start_seconds: float
    p99: float
    goodput: float
    refused: float
    peak: int
    cost: float


def requests_for(replicas: int, most: int) -> int:
    """Enough for a p99, and for each replica to see its share of a steady state."""
    return min(most, max(20_000, 200 * replicas))


def steady(
    times: ServiceTimes, rules: Rules, replicas: int, load: float, objective: float, most: int
) -> Steady:
    """One constant load, as a share of the devices' capacity."""
    offered = load * times.capacity * replicas
    seconds = requests_for(replicas, most) / offered
    outcome = Fleet(times, rules, replicas, seed=SEED).run(due_times(offered, seconds, SEED))
    begin = SHARE_LEFT_OUT * seconds
    kept = [latency for due, latency in zip(outcome.due, outcome.latencies, strict=True) if due >= begin]
    done = sum(begin <= moment <= seconds for moment in outcome.finished) / (seconds - begin)
    asked = max(1.0, outcome.statuses.total() * (1 - SHARE_LEFT_OUT))
    return Steady(
        *(replicas, rules.balancer, load, offered, done),
        *(percentile(kept, 0.5), percentile(kept, 0.99)),
        min(1.0, sum(latency <= objective for latency in kept) / asked),
        1 - outcome.statuses[200] / max(1, outcome.statuses.total()),
    )


def steadies(
    times: ServiceTimes, rules: Rules, objective: float, sizes: Sequence[int], most: int
) -> Iterator[Steady]:
    """Every fleet, balancer and load; a lone replica has nothing to balance."""
    for replicas in sizes:
        for balancer in BALANCERS if replicas > 1 else BALANCERS[:1]:
            chosen = replace(rules, balancer=balancer)
            for load in LOADS:
                yield steady(times, chosen, replicas, load, objective, most)


def highest_load(found: Sequence[Steady], replicas: int, balancer: str, objective: float) -> float:
    """The highest load at which that fleet's p99 holds the objective and nobody is refused, or 0."""
    mine = [one for one in found if (one.replicas, one.balancer) == (replicas, balancer)]
    held = [one.load for one in mine if one.p99 <= objective and one.refused == 0]
    return max(held, default=0.0)


def trace(times: ServiceTimes, name: str) -> Iterator[float]:
    """When requests are due: `day` or `crowd`."""
    mean = 0.7 * SMALL_FLEET * times.capacity
    if name == "day":
        return varying(day(mean, TRACE_SECONDS), mean * (1 + DAY_SWING), TRACE_SECONDS, SEED)
    return varying(crowd(mean, TRACE_SECONDS), mean * CROWD_FACTOR, TRACE_SECONDS, SEED)


def follow(times: ServiceTimes, rules: Rules, scaling: Scaling, name: str) -> Outcome:
    """A trace from beginning to end, with an autoscaler."""
    return Fleet(times, rules, int(SMALL_FLEET), scaling, SEED).run(trace(times, name))


def scaled(
    times: ServiceTimes, rules: Rules, objective: float, names: Sequence[str] = ("day", "crowd")
) -> Iterator[Scaled]:
    """Every trace, rule and start; the rule that holds is then tried with every start."""
    for name in names:
        for rule, start in [(rule, STARTS[1]) for rule in RULES] + [
            ("all three", one) for one in STARTS[::2]
        ]:
            outcome = follow(times, rules, replace(RULES[rule], start_seconds=start), name)
            yield _scaled(outcome, objective, times, (name, rule, start))


def _scaled(outcome: Outcome, objective: float, times: ServiceTimes, named: tuple[str, str, float]) -> Scaled:
    everybody = max(1, outcome.statuses.total())
    in_time = sum(latency <= objective for latency in outcome.latencies)
    steps = zip(outcome.replicas, outcome.replicas[1:], strict=False)
    paid = sum(count * (until - since) for (since, count), (until, _) in steps)
    return Scaled(
        *named,
        percentile(outcome.latencies, 0.99),
        in_time / everybody,
        outcome.statuses[429] / everybody,
        max(count for _, count in outcome.replicas),
        paid / (everybody / times.capacity),
    )

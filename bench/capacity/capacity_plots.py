"""The pictures of docs/capacity.md: p99 against load, and a flash crowd as each scaling rule meets it."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from bench.capacity.fleet import Outcome, Rules
from bench.capacity.scenarios import RULES, STARTS, TRACE_SECONDS, Steady, follow
from bench.harness.load import percentile
from bench.harness.times import ServiceTimes

WINDOW = 20.0  # seconds over which a p99 is taken
DOTS_PER_INCH = 80


def draw(folder: Path, found: Sequence[Steady], times: ServiceTimes, rules: Rules) -> None:
    """Write capacity-load.png and capacity-crowd.png."""
    load = Figure(figsize=(9, 4), layout="constrained")
    for place, balancer in zip(load.subplots(1, 2, sharey=True), ("random", "two"), strict=True):
        _draw_loads(place, [one for one in found if one.balancer == balancer or one.replicas == 1], balancer)
    load.savefig(folder / "capacity-load.png", dpi=DOTS_PER_INCH)
    crowd = Figure(figsize=(9, 5), layout="constrained")
    upper, lower = crowd.subplots(2, 1, sharex=True)
    for name, rule in RULES.items():
        outcome = follow(times, rules, replace(rule, start_seconds=STARTS[1]), "crowd")
        _draw_crowd(upper, lower, outcome, name)
    upper.set(ylabel="ready replicas")
    lower.set(ylabel="p99 of 20 s, s", xlabel="seconds", yscale="log", xlim=(0, TRACE_SECONDS))
    upper.legend(fontsize=8)
    crowd.savefig(folder / "capacity-crowd.png", dpi=DOTS_PER_INCH)


def _draw_loads(place: Any, found: Sequence[Steady], balancer: str) -> None:
    for replicas in sorted({one.replicas for one in found}):
        line = [one for one in found if one.replicas == replicas]
        label = f"{replicas:,}"
        place.plot([one.load for one in line], [1000 * one.p99 for one in line], marker=".", label=label)
    place.set(title=f"balancer: {balancer}", xlabel="load, share of capacity", ylabel="p99, ms", yscale="log")
    place.grid(visible=True, which="both", alpha=0.3)
    place.legend(title="replicas", fontsize=8)


def _draw_crowd(upper: Any, lower: Any, outcome: Outcome, name: str) -> None:
    upper.step(*zip(*outcome.replicas, strict=True), where="post", label=name)
    starts = [index * WINDOW for index in range(int(TRACE_SECONDS / WINDOW) + 1)]
    points = sorted(zip(outcome.due, outcome.latencies, strict=True))
    for since, until in pairwise(starts):
        inside = [latency for due, latency in points if since <= due < until]
        lower.plot(since, percentile(inside, 0.99), ".", color=upper.lines[-1].get_color(), markersize=3)

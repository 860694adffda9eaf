"""The plots of docs/capacity.md: p99 against load, and a flash crowd under each scaling rule."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from bench.capacity.fleet import FleetConfig, FleetResult
from bench.capacity.scenarios import RULES, STARTS, TRACE_SECONDS, ConstantLoad, run_trace
from bench.harness.measuring import percentile
from bench.harness.times import ServiceTimes

WINDOW = 20.0  # seconds over which a p99 is taken
DOTS_PER_INCH = 80


def draw(folder: Path, loads: Sequence[ConstantLoad], times: ServiceTimes, config: FleetConfig) -> None:
    """Write capacity-load.png and capacity-crowd.png."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, balancer in zip(figure.subplots(1, 2, sharey=True), ("random", "two"), strict=True):
        _draw_loads(axes, [one for one in loads if one.balancer == balancer or one.replicas == 1], balancer)
    figure.savefig(folder / "capacity-load.png", dpi=DOTS_PER_INCH)
    figure = Figure(figsize=(9, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for name, rule in RULES.items():
        result = run_trace(times, config, replace(rule, start_seconds=STARTS[1]), "crowd")
        _draw_trace(upper, lower, result, name)
    upper.set(ylabel="ready replicas")
    lower.set(ylabel="p99 of 20 s, s", xlabel="seconds", yscale="log", xlim=(0, TRACE_SECONDS))
    upper.legend(fontsize=8)
    figure.savefig(folder / "capacity-crowd.png", dpi=DOTS_PER_INCH)


def _draw_loads(axes: Any, loads: Sequence[ConstantLoad], balancer: str) -> None:
    for replicas in sorted({one.replicas for one in loads}):
        line = [one for one in loads if one.replicas == replicas]
        axes.plot([one.load for one in line], [one.p99_ms for one in line], marker=".", label=f"{replicas:,}")
    axes.set(title=f"balancer: {balancer}", xlabel="load, share of capacity", ylabel="p99, ms", yscale="log")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(title="replicas", fontsize=8)


def _draw_trace(upper: Any, lower: Any, result: FleetResult, name: str) -> None:
    upper.step(*zip(*result.replicas, strict=True), where="post", label=name)
    starts = [index * WINDOW for index in range(int(TRACE_SECONDS / WINDOW) + 1)]
    points = sorted(zip(result.due, result.latencies, strict=True))
    for since, until in pairwise(starts):
        inside = [latency for due, latency in points if since <= due < until]
        lower.plot(since, percentile(inside, 0.99), ".", color=upper.lines[-1].get_color(), markersize=3)

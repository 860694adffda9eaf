"""The model of a fleet against known queues, and the scaling rule against the manifests."""

import math
import random
from dataclasses import replace
from statistics import fmean

import pytest
import yaml

from app.serving.admission import ADMISSION_WAIT_SECONDS
from app.settings.settings import Settings
from bench.capacity.fleet import Fleet, FleetConfig, FleetResult
from bench.capacity.scaling import DOWN_SECONDS, DOWN_SHARE, UP_FACTOR, Autoscaler, Gauges, Scaling
from bench.capacity.validation import service_times
from bench.harness.arrivals import FLASH_CROWD_FACTOR, due_times, flash_crowd, varying_rate
from bench.harness.measuring import percentile
from bench.harness.processes import ROOT
from bench.harness.recorded import BatchRecord
from bench.harness.times import ServiceTimes

SECOND = 0.1
FIXED = ServiceTimes({1: [SECOND]}, [0.0])
ALONE = FleetConfig(max_batch=1, max_queue=10_000, timeout=1e6)


def run(
    times: ServiceTimes, config: FleetConfig, load: float, replicas: int = 1, requests: int = 20_000
) -> FleetResult:
    rate = load * times.capacity * replicas
    return Fleet(times, config, replicas).run(due_times(rate, requests / rate, 5))


# --- queues whose answer is known


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_fixed_service_times_wait_by_the_formula_of_pollaczek_and_khinchine(load: float) -> None:
    latencies = list(run(FIXED, ALONE, load, requests=60_000).latencies)
    assert fmean(latencies) == pytest.approx(SECOND + load * SECOND / (2 * (1 - load)), rel=0.04)
    assert min(latencies) == pytest.approx(SECOND)


def test_exponential_service_times_have_the_tail_of_an_m_m_1_queue() -> None:
    """M/M/1: the time in the system is exponential with rate (1 - load) / service."""
    draw = random.Random(2)  # noqa: S311  # a load, not a secret
    drawn = [draw.expovariate(1 / SECOND) for _ in range(20_000)]
    times = ServiceTimes({1: drawn}, [0.0])
    latencies = run(times, ALONE, 0.5, requests=80_000).latencies
    assert percentile(latencies, 0.99) == pytest.approx(math.log(100) * SECOND / 0.5, rel=0.08)


def test_the_time_outside_of_batches_is_added_once() -> None:
    times = ServiceTimes({1: [SECOND]}, [0.02])
    [latency] = Fleet(times, ALONE, 1).run([1.0]).latencies
    assert latency == pytest.approx(SECOND + 0.02)


def test_a_batch_takes_all_queued_requests_when_the_device_becomes_free() -> None:
    times = ServiceTimes({1: [0.1], 2: [0.15], 4: [0.2]}, [0.0])
    result = Fleet(times, replace(ALONE, max_batch=8), 1).run([0.0, 0.01, 0.02, 0.03, 0.04, 0.05])
    assert sorted(result.finished) == pytest.approx([0.1, 0.3, 0.3, 0.3, 0.3, 0.4])


def test_a_batch_on_an_idle_device_has_times_of_its_own() -> None:
    batches = [BatchRecord(1, 0.1, 5.0), BatchRecord(1, 0.2, 0.001), BatchRecord(2, 0.3, 0.002)]
    times = service_times(batches, [0.0])
    assert times == ServiceTimes({1: [0.201], 2: [0.302]}, [0.0], {1: [0.1]})
    result = Fleet(times, replace(ALONE, max_batch=2), 1).run([0.0, 0.05, 5.0])
    assert list(result.latencies) == pytest.approx([0.1, 0.05 + 0.201, 0.1])


def test_arrivals_make_a_running_batch_longer() -> None:
    times = ServiceTimes({1: [SECOND]}, [0.0], per_arrival=0.02)
    result = Fleet(times, ALONE, 1).run([0.0, 0.05, 0.11, 1.0])
    # the first until 0.12, with two arrivals; the others have the device alone
    assert list(result.finished) == pytest.approx([0.14, 0.24, 0.34, 1.1])
    assert times.capacity == pytest.approx(1 / 0.12)


# --- admission


def test_overload_is_refused_and_admitted_requests_are_answered_in_time() -> None:
    rules = FleetConfig(max_batch=1, max_queue=8, timeout=1e6)
    result = run(FIXED, rules, 2.0, requests=4000)
    assert set(result.statuses) == {200, 429}
    assert result.statuses.total() == pytest.approx(4000, rel=0.1)
    assert len(result.latencies) / max(result.finished) == pytest.approx(FIXED.capacity, rel=0.01)
    assert max(result.latencies) <= 8 * SECOND + ADMISSION_WAIT_SECONDS + 1e-9


def test_a_long_queue_before_the_replicas_holds_requests_that_they_would_refuse() -> None:
    due = [number * 0.05 for number in range(60)]  # twice the capacity
    own = Fleet(FIXED, replace(ALONE, max_queue=4, wait_slots=4), 1).run(due)
    front = Fleet(FIXED, replace(ALONE, max_queue=4, wait_slots=40, wait_seconds=1e6), 1).run(due)
    assert own.statuses[429] > 0
    assert front.statuses == {200: 60}
    assert max(front.latencies) > max(own.latencies)


def test_requests_that_would_miss_their_deadline_are_refused_by_prediction() -> None:
    rules = FleetConfig(max_batch=1, max_queue=1000, timeout=1.0)
    result = run(FIXED, rules, 2.0, requests=4000)
    assert result.statuses[429] > 1000
    assert result.statuses[504] < 0.01 * result.statuses.total()
    assert max(result.latencies) <= 1.0


def test_every_request_has_one_status() -> None:
    rules = FleetConfig(max_batch=1, max_queue=8, timeout=0.5, retry_elsewhere=True)
    due = list(due_times(60, 30, 4))
    result = Fleet(FIXED, rules, 3).run(due)
    assert result.statuses.total() == len(due)
    assert len(result.latencies) == len(result.due) == result.statuses[200]


# --- fleets


def test_a_balancer_that_compares_two_replicas_beats_a_random_one() -> None:
    tails = {
        name: percentile(run(FIXED, replace(ALONE, balancer=name), 0.8, 20).latencies, 0.99)
        for name in ("random", "turns", "two")
    }
    assert tails["two"] < 0.7 * tails["random"]
    assert tails["turns"] < 0.7 * tails["random"]


def test_a_request_that_one_replica_refuses_is_taken_by_another() -> None:
    config = FleetConfig(max_batch=1, max_queue=2, timeout=1e6, balancer="random")
    once = run(FIXED, config, 0.9, 10).statuses[429]
    assert run(FIXED, replace(config, retry_elsewhere=True), 0.9, 10).statuses[429] < 0.5 * once


def gauges(moment: float, busy: float = 0.0, queue: float = 0.0) -> Gauges:
    return Gauges(moment, busy, queue, 0.0)


def test_the_autoscaler_at_most_doubles_and_ends_replicas_only_after_the_stabilization() -> None:
    scaler = Autoscaler(Scaling(), 4)
    assert scaler.decide(gauges(15, busy=15 * 4 * 0.7)) == 0
    assert scaler.decide(gauges(30, busy=30 * 4 * 0.75)) == 0  # within the tolerance
    assert scaler.decide(gauges(45, busy=45 * 4, queue=Scaling().queue * 40)) == 4
    moments = [45 + 15 * index for index in range(1, 40)]
    changes = [(moment, scaler.decide(gauges(moment, busy=180))) for moment in moments]
    first = next(moment for moment, change in changes if change)
    assert first > 45 + Scaling().stabilization_seconds
    assert dict(changes)[first] == -2  # a fifth of 8, and the rest of a replica


def test_a_flash_crowd_adds_replicas_that_end_afterwards() -> None:
    rules = replace(ALONE, max_queue=64)
    before = 0.7 * 4 * FIXED.capacity
    due = varying_rate(flash_crowd(before, 1800), FLASH_CROWD_FACTOR * before, 1800, 3)
    result = Fleet(FIXED, rules, 4, Scaling(start_seconds=30)).run(due)
    peak = max(count for _, count in result.replicas)
    assert FLASH_CROWD_FACTOR * 4 <= peak <= 2 * FLASH_CROWD_FACTOR * 4
    assert result.replicas[-1][1] < peak / 2
    late = [latency for due, latency in zip(result.due, result.latencies, strict=True) if due > 800]
    assert percentile(late, 0.99) < 10 * SECOND


def test_the_rule_is_that_of_the_manifest() -> None:
    path = ROOT / "docker/kubernetes/components/keda/scaled-object.yaml"
    spec = yaml.safe_load(path.read_text())["spec"]
    thresholds = {one["name"]: float(one["metadata"]["threshold"]) for one in spec["triggers"]}
    rule = Scaling()
    assert thresholds == {"busy": rule.busy, "queue": rule.queue, "predicted-wait": rule.wait}
    assert rule.queue == Settings().max_queue / 4  # full queues ask for four times the replicas, no more
    assert rule.wait == Settings().timeout_ms / 1000 / 4
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    [up], [down] = behavior["scaleUp"]["policies"], behavior["scaleDown"]["policies"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == rule.stabilization_seconds
    assert (up["value"], up["periodSeconds"]) == (100 * (UP_FACTOR - 1), rule.period)
    assert (down["value"], down["periodSeconds"]) == (100 * DOWN_SHARE, DOWN_SECONDS)
    assert (spec["pollingInterval"], spec["minReplicaCount"]) == (rule.period, rule.min_replicas)

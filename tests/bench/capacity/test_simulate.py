"""The model of a fleet against what queues are known to do, against the manifests, and as a program."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from app.serving.admission import ADMISSION_WAIT_SECONDS
from app.settings.settings import Settings
from bench.capacity import simulate
from bench.capacity.fleet import Fleet, Outcome, Rules
from bench.capacity.scaling import DOWN_SECONDS, DOWN_SHARE, UP_FACTOR, Autoscaler, Gauges, Scaling
from bench.capacity.scenarios import Steady, highest_load
from bench.capacity.validation import (
    Compared,
    Round,
    as_tally,
    compared,
    modelled,
    per_arrival,
    pooled,
    service_times,
    within,
)
from bench.harness.arrivals import CROWD_FACTOR, crowd, day, due_times, varying
from bench.harness.load import Plan, figures, percentile
from bench.harness.recorded import Batch, Recorded, read
from bench.harness.stand_in import StandIn
from bench.harness.times import ServiceTimes, read_times, stretched, write_times
from tests.process.test_lifecycle import AS_PNG
from tests.support.fakes import FakeDetector, picture
from tests.support.served import ROOT, Serve

SECOND = 0.1
FIXED = ServiceTimes({1: [SECOND]}, [0.0])
ALONE = Rules(max_batch=1, max_queue=10_000, timeout=1e6)


def run(times: ServiceTimes, rules: Rules, load: float, replicas: int = 1, requests: int = 20_000) -> Outcome:
    rate = load * times.capacity * replicas
    return Fleet(times, rules, replicas).run(due_times(rate, requests / rate, 5))


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


# --- queues whose answer is known


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_fixed_service_times_wait_as_pollaczek_and_khinchine_say(load: float) -> None:
    latencies = list(run(FIXED, ALONE, load, requests=60_000).latencies)
    assert mean(latencies) == pytest.approx(SECOND + load * SECOND / (2 * (1 - load)), rel=0.04)
    assert min(latencies) == pytest.approx(SECOND)


def test_exponential_service_times_have_the_tail_of_their_queue() -> None:
    """M/M/1: the time in the system is exponential with rate (1 - load) / service."""
    draw = random.Random(2)  # noqa: S311  # a load, not a secret
    drawn = [draw.expovariate(1 / SECOND) for _ in range(20_000)]
    times = ServiceTimes({1: drawn}, [0.0])
    latencies = run(times, ALONE, 0.5, requests=80_000).latencies
    assert percentile(latencies, 0.99) == pytest.approx(math.log(100) * SECOND / 0.5, rel=0.08)


def test_what_is_outside_of_batches_is_added_once() -> None:
    times = ServiceTimes({1: [SECOND]}, [0.02])
    [latency] = Fleet(times, ALONE, 1).run([1.0]).latencies
    assert latency == pytest.approx(SECOND + 0.02)


def test_a_batch_is_all_who_wait_as_the_device_becomes_free() -> None:
    times = ServiceTimes({1: [0.1], 2: [0.15], 4: [0.2]}, [0.0])
    outcome = Fleet(times, replace(ALONE, max_batch=8), 1).run([0.0, 0.01, 0.02, 0.03, 0.04, 0.05])
    assert sorted(outcome.finished) == pytest.approx([0.1, 0.3, 0.3, 0.3, 0.3, 0.4])


def test_a_batch_on_an_idle_device_has_times_of_its_own() -> None:
    found = [Batch(1, 0.1, 5.0), Batch(1, 0.2, 0.001), Batch(2, 0.3, 0.002)]
    times = service_times(found, [0.0])
    assert times == ServiceTimes({1: [0.201], 2: [0.302]}, [0.0], {1: [0.1]})
    outcome = Fleet(times, replace(ALONE, max_batch=2), 1).run([0.0, 0.05, 5.0])
    assert list(outcome.latencies) == pytest.approx([0.1, 0.05 + 0.201, 0.1])


# --- admission


def test_what_arrives_meanwhile_makes_a_batch_longer() -> None:
    times = ServiceTimes({1: [SECOND]}, [0.0], per_arrival=0.02)
    outcome = Fleet(times, ALONE, 1).run([0.0, 0.05, 0.11, 1.0])
    # the first until 0.12, with two that arrive; the others have the device for themselves
    assert list(outcome.finished) == pytest.approx([0.14, 0.24, 0.34, 1.1])
    assert times.capacity == pytest.approx(1 / 0.12)


def test_what_arrivals_take_from_a_batch_is_told_apart() -> None:
    draw = random.Random(3)  # noqa: S311  # arrivals, not secrets
    found = []
    for _ in range(500):
        size, prepared = draw.choice((1, 2)), draw.randint(0, 4)
        found.append(Batch(size, 0.02 * size + 0.003 * prepared + draw.uniform(0, 0.001), 0.0, prepared))
    times = service_times(found, [0.006])
    assert times.per_arrival == pytest.approx(0.003, rel=0.05)
    assert mean(times.batches[2]) == pytest.approx(0.0405, rel=0.02)
    assert per_arrival([Batch(1, 0.02, 0.0, 1)] * 3) == 0
    assert per_arrival([Batch(1, 0.02, 0.0, 1), Batch(1, 0.01, 0.0, 2)]) == 0  # not below


def test_overload_is_refused_and_who_is_inside_is_answered_in_time() -> None:
    rules = Rules(max_batch=1, max_queue=8, timeout=1e6)
    outcome = run(FIXED, rules, 2.0, requests=4000)
    assert set(outcome.statuses) == {200, 429}
    assert outcome.statuses.total() == pytest.approx(4000, rel=0.1)
    assert len(outcome.latencies) / max(outcome.finished) == pytest.approx(FIXED.capacity, rel=0.01)
    assert max(outcome.latencies) <= 8 * SECOND + ADMISSION_WAIT_SECONDS + 1e-9


def test_a_queue_in_front_of_the_replicas_holds_who_their_own_door_refuses() -> None:
    due = [number * 0.05 for number in range(60)]  # twice the capacity
    own = Fleet(FIXED, replace(ALONE, max_queue=4, admission_wait_slots=4), 1).run(due)
    front = Fleet(FIXED, replace(ALONE, max_queue=4, admission_wait_slots=40, door_seconds=1e6), 1).run(due)
    assert own.statuses[429] > 0
    assert front.statuses == {200: 60}
    assert max(front.latencies) > max(own.latencies)


def test_who_would_be_too_late_is_refused_by_the_services_own_prediction() -> None:
    rules = Rules(max_batch=1, max_queue=1000, timeout=1.0)
    outcome = run(FIXED, rules, 2.0, requests=4000)
    assert outcome.statuses[429] > 1000
    assert outcome.statuses[504] < 0.01 * outcome.statuses.total()
    assert max(outcome.latencies) <= 1.0


def test_every_request_has_one_outcome() -> None:
    rules = Rules(max_batch=1, max_queue=8, timeout=0.5, elsewhere=True)
    due = list(due_times(60, 30, 4))
    outcome = Fleet(FIXED, rules, 3).run(due)
    assert outcome.statuses.total() == len(due)
    assert len(outcome.latencies) == len(outcome.due) == outcome.statuses[200]


# --- fleets


def test_a_balancer_that_looks_at_two_replicas_beats_one_that_looks_at_none() -> None:
    tails = {
        name: percentile(run(FIXED, replace(ALONE, balancer=name), 0.8, 20).latencies, 0.99)
        for name in ("random", "turns", "two")
    }
    assert tails["two"] < 0.7 * tails["random"]
    assert tails["turns"] < 0.7 * tails["random"]


def test_a_request_that_one_replica_refuses_is_taken_by_another() -> None:
    rules = Rules(max_batch=1, max_queue=2, timeout=1e6, balancer="random")
    refused = [
        run(FIXED, replace(rules, elsewhere=elsewhere), 0.9, 10).statuses[429] for elsewhere in (False, True)
    ]
    assert refused[1] < 0.5 * refused[0]


def gauges(moment: float, busy: float = 0.0, queue: float = 0.0) -> Gauges:
    return Gauges(moment, busy, queue, 0.0)


def test_the_autoscaler_doubles_at_most_and_ends_replicas_only_after_a_calm() -> None:
    scaler = Autoscaler(Scaling(), 4)
    assert scaler.decide(gauges(15, busy=15 * 4 * 0.7)) == 0
    assert scaler.decide(gauges(30, busy=30 * 4 * 0.75)) == 0  # within the tolerance
    assert scaler.decide(gauges(45, busy=45 * 4, queue=Scaling().queue * 40)) == 4
    moments = [45 + 15 * index for index in range(1, 40)]
    changes = [(moment, scaler.decide(gauges(moment, busy=180))) for moment in moments]
    first = next(moment for moment, change in changes if change)
    assert first > 45 + Scaling().calm_seconds
    assert dict(changes)[first] == -2  # a fifth of 8, and the rest of a replica


def test_a_crowd_is_met_by_new_replicas_and_they_go_again() -> None:
    rules = replace(ALONE, max_queue=64)
    before = 0.7 * 4 * FIXED.capacity
    due = varying(crowd(before, 1800), CROWD_FACTOR * before, 1800, 3)
    outcome = Fleet(FIXED, rules, 4, Scaling(start_seconds=30)).run(due)
    peak = max(count for _, count in outcome.replicas)
    assert CROWD_FACTOR * 4 <= peak <= 2 * CROWD_FACTOR * 4
    assert outcome.replicas[-1][1] < peak / 2
    late = [latency for due, latency in zip(outcome.due, outcome.latencies, strict=True) if due > 800]
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
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == rule.calm_seconds
    assert (up["value"], up["periodSeconds"]) == (100 * (UP_FACTOR - 1), rule.period)
    assert (down["value"], down["periodSeconds"]) == (100 * DOWN_SHARE, DOWN_SECONDS)
    assert (spec["pollingInterval"], spec["minReplicaCount"]) == (rule.period, rule.least)


# --- arrivals


def test_random_times_have_the_rate_and_are_the_same_again() -> None:
    assert list(due_times(4, 1)) == [0, 0.25, 0.5, 0.75]
    times = list(due_times(100, 100, 7))
    assert len(times) == pytest.approx(10_000, rel=0.04)
    assert times == sorted(times) == list(due_times(100, 100, 7)) != list(due_times(100, 100, 8))


def test_a_day_and_a_crowd_have_their_shapes() -> None:
    rate = day(10, 86_400)
    assert (rate(0), rate(43_200), rate(86_400)) == pytest.approx((4, 16, 4))
    rate = crowd(10, 100)
    assert (rate(24), rate(30), rate(66)) == (10, 10 * CROWD_FACTOR, 10)


# --- measured times and the comparison


async def test_a_recorded_detector_serves_and_writes_down_its_batches(tmp_path: Path, serve: Serve) -> None:
    path = tmp_path / "batches"
    with path.open("w", buffering=1) as notebook:
        async with serve(Recorded(FakeDetector(), notebook)) as served:
            for _ in range(2):
                assert (await served.client.post("/detect", content=picture(), headers=AS_PNG)).is_success
    assert [batch.size for batch in read(path)] == [1, 1]
    assert all(0 <= batch.seconds < 10 and batch.idle > 0 for batch in read(path))
    assert len(read(path, skip=1)) == 1


async def test_a_stand_in_takes_measured_times_and_finds_nothing(serve: Serve) -> None:
    batches = {1: [0.02], 2: [0.03]}
    async with serve(StandIn(FakeDetector(), batches)) as served:
        raw = {"Content-Type": "application/octet-stream"}
        response = await served.client.post("/detect", content=picture(100, 80), headers=raw)
        assert (response.status_code, response.json()["boxes"]) == (200, [])
        assert response.json()["image"] == {"width": 100, "height": 80}
        assert response.json()["timings_ms"]["inference"] >= 20
        assert StandIn(FakeDetector(), batches).warm_up(8) == 2


def test_a_slower_device_has_every_size_of_batch() -> None:
    slower = stretched(ServiceTimes({1: [0.1], 4: [0.2, 0.3]}, [0.01]), 5)
    assert slower.outside == [0.01]
    assert {size: pytest.approx(found) for size, found in slower.batches.items()} == {
        1: [0.5],
        2: [1.0],
        3: [0.75, 1.125],
        4: [1.0, 1.5],
    }


def test_each_round_is_modelled_with_its_own_service_times() -> None:
    """A machine that is twice as slow in one round of three: a model of the three mixed would be off."""
    plan, rounds = Plan(64, 200.0, rate=5.0, seed=3), []
    for seconds in (0.1, 0.18, 0.1):
        times = ServiceTimes({1: [seconds] * 3}, [0.01], {1: [seconds]})
        rounds.append(Round(times, {"0.5x": (plan, modelled(times, ALONE, plan))}))
    [found] = compared(rounds, ALONE)
    assert (found.load, found.rate) == ("0.5x", 5.0)
    assert found.off("p99_ms") == found.off("images_per_second") == 0.0
    together = pooled([one.times for one in rounds])
    assert together.batches == {1: [0.1] * 3 + [0.18] * 3 + [0.1] * 3}
    assert together.fresh == {1: [0.1, 0.18, 0.1]}
    assert modelled(together, ALONE, plan).p99_ms > 1.1 * found.model.p99_ms


def test_service_times_come_back_from_their_file(tmp_path: Path) -> None:
    times = ServiceTimes({1: (0.025, 0.026), 4: (0.08,)}, (0.008,), {1: (0.02,)}, 0.002)
    write_times(tmp_path / "times.json", times, {"model": "shapes"})
    assert read_times(tmp_path / "times.json") == times
    assert json.loads((tmp_path / "times.json").read_text())["model"] == "shapes"
    assert times.capacity == pytest.approx(1 / 0.022)


def test_figures_of_the_model_are_those_of_the_load_generator() -> None:
    plan = Plan(1, 10, rate=5)
    found = modelled(FIXED, ALONE, plan)
    assert found == figures(as_tally(Fleet(FIXED, ALONE, 1).run(due_times(5, 10))), plan)
    assert found.images_per_second == pytest.approx(5)
    worse = replace(found, p99_ms=found.p99_ms * 1.2)
    assert within([Compared("1x", 5, found, found)])
    assert not within([Compared("1x", 5, found, worse)])


# --- the program


def test_the_highest_load_is_the_last_that_holds() -> None:
    def row(load: float, p99: float, refused: float) -> Steady:
        return Steady(2, "two", load, 1.0, 1.0, 0.1, p99, 1.0, refused)

    found = [row(0.5, 0.1, 0), row(0.7, 0.4, 0), row(0.8, 0.4, 0.1), row(0.9, 0.6, 0)]
    assert highest_load(found, 2, "two", 0.5) == 0.7
    assert highest_load(found, 2, "two", 0.05) == 0


def test_tables_and_pictures_come_from_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, times = tmp_path / "page.md", tmp_path / "times.json"
    page.write_text("<!-- highest -->\nold\n<!-- /highest -->\nrest\n")
    write_times(times, ServiceTimes({1: [2.0]}, [0.1]), {})
    given = ["--times", str(times), "--most", "2", "--requests", "200", "--page", str(page)]
    monkeypatch.setattr("sys.argv", ["simulate", *given, "--plots", str(tmp_path)])
    assert simulate.main() == 0
    assert "one replica: 0.5 images/s" in capsys.readouterr().out
    assert page.read_text().startswith("<!-- highest -->\n| replicas | random |")
    assert page.read_text().endswith("<!-- /highest -->\nrest\n")
    for name in ("capacity-load.png", "capacity-crowd.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")

"""Arrivals, measured service times, the model beside the server."""

import json
import random
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from bench.capacity.fleet import Fleet, FleetConfig
from bench.capacity.scenarios import ConstantLoad, highest_load
from bench.capacity.validation import (
    ModelComparison,
    ValidationRound,
    as_tally,
    compare,
    is_within,
    per_arrival,
    pool,
    service_times,
    simulate,
)
from bench.harness.arrivals import FLASH_CROWD_FACTOR, day, due_times, flash_crowd
from bench.harness.load import LoadPlan, summarize
from bench.harness.recorded import BatchRecord, RecordingDetector, read_records
from bench.harness.stand_in import StandInDetector
from bench.harness.times import ServiceTimes, read_times, slowed_down, write_times
from tests.support.fakes import FakeDetector, picture
from tests.support.served import Serve

RAW = {"Content-Type": "application/octet-stream"}
SECOND = 0.1
FIXED = ServiceTimes({1: [SECOND]}, [0.0])
ALONE = FleetConfig(max_batch=1, max_queue=10_000, timeout=1e6)


# --- arrivals


def test_random_times_have_the_rate_and_are_reproducible() -> None:
    assert list(due_times(4, 1)) == [0, 0.25, 0.5, 0.75]
    times = list(due_times(100, 100, 7))
    assert len(times) == pytest.approx(10_000, rel=0.04)
    assert times == sorted(times) == list(due_times(100, 100, 7)) != list(due_times(100, 100, 8))


def test_the_rates_of_a_day_and_of_a_flash_crowd() -> None:
    rate = day(10, 86_400)
    assert (rate(0), rate(43_200), rate(86_400)) == pytest.approx((4, 16, 4))
    rate = flash_crowd(10, 100)
    assert (rate(24), rate(30), rate(66)) == (10, 10 * FLASH_CROWD_FACTOR, 10)


# --- measured times and the comparison


def test_the_share_of_arrivals_is_taken_out_of_batch_times() -> None:
    draw = random.Random(3)  # noqa: S311  # arrivals, not secrets
    batches = []
    for _ in range(500):
        size, prepared = draw.choice((1, 2)), draw.randint(0, 4)
        seconds = 0.02 * size + 0.003 * prepared + draw.uniform(0, 0.001)
        batches.append(BatchRecord(size, seconds, 0.0, prepared))
    times = service_times(batches, [0.006])
    assert times.per_arrival == pytest.approx(0.003, rel=0.05)
    assert fmean(times.batches[2]) == pytest.approx(0.0405, rel=0.02)
    assert per_arrival([BatchRecord(1, 0.02, 0.0, 1)] * 3) == 0
    assert per_arrival([BatchRecord(1, 0.02, 0.0, 1), BatchRecord(1, 0.01, 0.0, 2)]) == 0  # not below


async def test_a_recording_detector_serves_and_records_its_batches(tmp_path: Path, serve: Serve) -> None:
    path = tmp_path / "batches"
    with path.open("w", buffering=1) as record:
        async with serve(RecordingDetector(FakeDetector(), record)) as served:
            for _ in range(2):
                assert (await served.client.post("/detect", content=picture(), headers=RAW)).is_success
    assert [batch.size for batch in read_records(path)] == [1, 1]
    assert all(0 <= batch.seconds < 10 and batch.idle > 0 for batch in read_records(path))
    assert len(read_records(path, skip=1)) == 1


async def test_a_stand_in_takes_measured_times_and_detects_nothing(serve: Serve) -> None:
    batches = {1: [0.02], 2: [0.03]}
    async with serve(StandInDetector(FakeDetector(), batches)) as served:
        response = await served.client.post("/detect", content=picture(100, 80), headers=RAW)
        assert (response.status_code, response.json()["boxes"]) == (200, [])
        assert response.json()["image"] == {"width": 100, "height": 80}
        assert response.json()["timings_ms"]["inference"] >= 20
        assert StandInDetector(FakeDetector(), batches).warm_up(8) == 2


def test_a_slower_device_has_every_size_of_batch() -> None:
    slower = slowed_down(ServiceTimes({1: [0.1], 4: [0.2, 0.3]}, [0.01]), 5)
    assert slower.outside == [0.01]
    assert {size: pytest.approx(seconds) for size, seconds in slower.batches.items()} == {
        1: [0.5],
        2: [1.0],
        3: [0.75, 1.125],
        4: [1.0, 1.5],
    }


def test_each_round_is_simulated_with_its_own_service_times() -> None:
    """A machine that is twice as slow in one round of three: a model of the three mixed would be off."""
    plan, rounds = LoadPlan(64, 200.0, rate=5.0, seed=3), []
    for seconds in (0.1, 0.18, 0.1):
        times = ServiceTimes({1: [seconds] * 3}, [0.01], {1: [seconds]})
        rounds.append(ValidationRound(times, {"0.5x": (plan, simulate(times, ALONE, plan))}))
    [comparison] = compare(rounds, ALONE)
    assert (comparison.load, comparison.rate) == ("0.5x", 5.0)
    assert comparison.relative_error("p99_ms") == comparison.relative_error("images_per_second") == 0.0
    together = pool([one.times for one in rounds])
    assert together.batches == {1: [0.1] * 3 + [0.18] * 3 + [0.1] * 3}
    assert together.fresh == {1: [0.1, 0.18, 0.1]}
    assert simulate(together, ALONE, plan).p99_ms > 1.1 * comparison.model.p99_ms


def test_service_times_are_read_back_from_their_file(tmp_path: Path) -> None:
    times = ServiceTimes({1: (0.025, 0.026), 4: (0.08,)}, (0.008,), {1: (0.02,)}, 0.002)
    write_times(tmp_path / "times.json", times, model="shapes")
    assert read_times(tmp_path / "times.json") == times
    assert json.loads((tmp_path / "times.json").read_text())["model"] == "shapes"
    assert times.capacity == pytest.approx(1 / 0.022)


def test_the_model_is_summarized_as_the_load_generator_is() -> None:
    plan = LoadPlan(1, 10, rate=5)
    result = simulate(FIXED, ALONE, plan)
    assert result == summarize(as_tally(Fleet(FIXED, ALONE, 1).run(due_times(5, 10))), plan)
    assert result.images_per_second == pytest.approx(5)
    worse = replace(result, p99_ms=result.p99_ms * 1.2)
    assert is_within([ModelComparison("1x", 5, result, result)])
    assert not is_within([ModelComparison("1x", 5, result, worse)])


def test_the_highest_load_holds_the_objective_without_refusals() -> None:
    rows = [(0.5, 100.0, 0.0), (0.7, 400.0, 0.0), (0.8, 400.0, 0.1), (0.9, 600.0, 0.0)]
    loads = [ConstantLoad(2, "two", load, 1.0, 1.0, 100.0, p99, 1.0, refused) for load, p99, refused in rows]
    assert highest_load(loads, 2, "two", 0.5) == 0.7
    assert highest_load(loads, 2, "two", 0.05) == 0

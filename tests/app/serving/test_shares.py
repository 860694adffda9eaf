"""The shares of models in the queue: slots that are kept for the others, and waits that are predicted."""

import asyncio

import pytest

from app.batching.flow import Flow
from app.errors import Overloaded
from app.serving.admission import Admission

NOW = 1000.0


def admission(models: int = 2, max_queue: int = 16) -> Admission:
    made = Admission(max_queue, 1 << 30, clock=lambda: NOW, wait_seconds=0.05)
    made.shares.set_models(models)
    return made


def fill(made: Admission, flow: Flow) -> int:
    """How many requests of a flow are admitted."""
    count = 0
    while True:
        try:
            made.admit(1, float("inf"), flow=flow)
        except Overloaded:
            return count
        count += 1


@pytest.mark.parametrize(("models", "most"), [(1, 16), (2, 12), (4, 10)])
def test_one_model_leaves_slots_for_the_others(models: int, most: int) -> None:
    made, crowd, other = admission(models), Flow(), Flow()
    assert fill(made, crowd) == most
    assert fill(made, other) == 16 - most


def test_a_quick_model_is_admitted_beside_a_crowd_of_a_slow_one() -> None:
    made, slow, quick = admission(), Flow(), Flow()
    for _ in range(3):
        made.admit(1, NOW + 60, flow=slow)
    for _ in range(20):
        made.observe(1, 5.0, slow)
        made.observe(4, 0.04, quick)
    made.admit(1, NOW + 6, flow=quick)  # the batch that runs, and its own
    with pytest.raises(Overloaded, match=r"about 25\.0 s"):
        made.check_capacity(NOW + 10, flow=slow)
    assert made.predicted_wait == pytest.approx(15.0, abs=0.5)


async def test_a_free_slot_goes_to_a_waiting_request_that_may_take_it() -> None:
    made, crowd, other = admission(max_queue=4), Flow(), Flow()
    permits = [made.admit(1, float("inf"), flow=crowd) for _ in range(3)]
    last = made.admit(1, float("inf"), flow=other)
    made.wait_seconds = 20
    waiting = [asyncio.ensure_future(made.wait_for_capacity(flow=flow)) for flow in (crowd, other)]
    await asyncio.sleep(0)
    last.release()
    await waiting[1]
    assert not waiting[0].done()
    permits[0].release()
    await waiting[0]

"""Admission: the bounds hold, a place comes back exactly once, no deadline is promised that would break."""

import asyncio
import math
import random

import pytest

from app.batching.item import HIGHEST, LOWEST, NORMAL
from app.errors import Draining, Overloaded
from app.serving.admission import LEAST_DOOR_PLACES, Admission, Permit, admission_wait_slots

LATE = 1e9


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def door(max_queue: int = 2, max_queue_bytes: int = 1000, clock: Clock | None = None) -> Admission:
    return Admission(max_queue, max_queue_bytes, clock or Clock())


def test_a_permit_holds_a_place_and_bytes_until_the_block_ends() -> None:
    admission = door()
    with admission.admit(300, LATE):
        assert (admission.depth, admission.bytes) == (1, 300)
    assert (admission.depth, admission.bytes) == (0, 0)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
def test_a_place_comes_back_whatever_is_raised(error: type[BaseException]) -> None:
    admission = door()
    permit = admission.admit(300, LATE)
    permit.grow(50)
    with pytest.raises(error), permit:
        raise error
    assert (admission.depth, admission.bytes) == (0, 0)


def test_a_place_comes_back_only_once() -> None:
    admission = door()
    other = admission.admit(10, LATE)
    with admission.admit(300, LATE) as permit:
        permit.release()
        permit.release()
    permit.grow(400)  # a decoder that ends after its request does
    assert (admission.depth, admission.bytes) == (1, 10)
    other.release()


def test_no_more_than_max_queue_are_inside() -> None:
    admission = door(max_queue=2)
    permits = [admission.admit(0, LATE) for _ in range(2)]
    with pytest.raises(Overloaded, match="2 requests wait, 2 may"):
        admission.admit(0, LATE)
    with pytest.raises(Overloaded):
        admission.check_capacity()
    permits[0].release()
    admission.check_capacity()
    with admission.admit(0, LATE):
        assert admission.depth == 2


def test_no_more_than_max_queue_bytes_are_held() -> None:
    admission = door(max_queue=9)
    admission.admit(600, LATE)
    with pytest.raises(Overloaded, match="1000 bytes"):
        admission.admit(401, LATE)
    assert (admission.depth, admission.bytes) == (1, 600)
    permit = admission.admit(300, LATE)
    with pytest.raises(Overloaded):
        permit.grow(101)
    permit.grow(100)
    assert admission.bytes == 1000
    with pytest.raises(Overloaded, match="1000 bytes"):
        admission.check_capacity()
    permit.grow(-400)
    assert admission.bytes == 600


def test_a_request_that_is_alone_is_never_refused_for_bytes() -> None:
    admission = door()
    with admission.admit(5000, LATE) as permit:
        permit.grow(5000)
        with pytest.raises(Overloaded):
            admission.check_capacity()
    assert admission.bytes == 0


def test_a_deadline_that_the_queue_would_break_is_refused_with_the_wait() -> None:
    """A newcomer is answered after those inside, itself, and with the batch that it rides in."""
    clock = Clock()
    admission = door(max_queue=9, clock=clock)
    for _ in range(60):
        admission.observe(2, 3.0)  # 1.5 s an image
    permits = [admission.admit(0, clock.now + 60) for _ in range(3)]
    assert admission.predicted_wait == pytest.approx(4.5)
    assert admission.predicted_answer == pytest.approx(4.5 + 1.5 + 3.0, abs=0.01)
    with pytest.raises(Overloaded, match=r"about 9\.0 s") as caught:
        admission.admit(0, clock.now + 8.9)
    assert caught.value.headers() == {"Retry-After": "5"}
    assert admission.depth == 3
    with admission.admit(0, clock.now + 9.1):
        assert admission.depth == 4
    permits[0].release()
    with admission.admit(0, clock.now + 7.6):
        assert admission.depth == 3


async def test_who_has_no_time_waits_at_the_door_too() -> None:
    """Or clients that ask again at once after such a refusal would take the cores from the work."""
    clock = Clock()
    admission = door(max_queue=9, clock=clock)
    for _ in range(60):
        admission.observe(1, 1.0)
    inside = admission.admit(0, LATE)
    waiting = asyncio.ensure_future(admission.wait_for_capacity(clock.now + 2.5, seconds=60))
    await asyncio.sleep(0)
    assert not waiting.done()
    inside.release()
    await waiting
    inside = admission.admit(0, LATE)
    with pytest.raises(Overloaded, match="more than the request's time"):
        await admission.wait_for_capacity(clock.now + 2.5, seconds=0.001)
    inside.release()


def test_an_idle_service_takes_a_request_however_slow_the_last_batch_was() -> None:
    clock = Clock()
    admission = door(clock=clock)
    admission.observe(1, 3600.0)
    with admission.admit(0, clock.now + 1):
        assert admission.depth == 1


def test_an_idle_service_leaves_it_to_the_deadline_to_answer_who_comes_too_late() -> None:
    clock = Clock()
    admission = door(clock=clock)
    admission.observe(1, 1.0)
    with admission.admit(0, clock.now - 1):
        assert admission.depth == 1


def test_before_the_first_batch_no_wait_is_predicted() -> None:
    clock = Clock()
    admission = door(clock=clock)
    with admission.admit(0, clock.now + 1), admission.admit(0, clock.now + 1):
        assert admission.predicted_wait == 0


def test_the_prediction_follows_the_batches() -> None:
    admission = door()
    admission.admit(0, LATE)
    admission.observe(2, 2.0)
    assert admission.predicted_wait == 1.0
    admission.observe(1, 2.0)
    assert admission.predicted_wait == pytest.approx(1.2)
    for _ in range(50):
        admission.observe(4, 12.0)
    assert admission.predicted_wait == pytest.approx(3.0, abs=0.01)


def test_another_models_first_batch_is_believed_at_once() -> None:
    admission = Admission(max_queue=8, max_queue_bytes=1000)
    permits = [admission.admit(1, math.inf) for _ in range(2)]
    for _ in range(3):
        admission.observe(2, 8.0)
    assert admission.predicted_wait == pytest.approx(8.0)
    admission.reset_estimates()
    assert admission.predicted_wait == pytest.approx(8.0)
    admission.observe(2, 1.0)
    assert admission.predicted_wait == pytest.approx(1.0)
    admission.observe(2, 2.0)
    assert admission.predicted_wait == pytest.approx(1.2)
    for permit in permits:
        permit.release()


@pytest.mark.parametrize(("seconds", "retry_after"), [(0.0, "1"), (0.01, "1"), (1.2, "3")])
def test_a_full_queue_says_when_it_will_be_empty(seconds: float, retry_after: str) -> None:
    admission = door(max_queue=2)
    admission.observe(1, seconds)
    permits = [admission.admit(0, LATE) for _ in range(2)]
    with pytest.raises(Overloaded, match=f"try again in {retry_after} s") as caught:
        admission.check_capacity()
    assert caught.value.headers() == {"Retry-After": retry_after}
    assert len(permits) == 2


async def test_draining_refuses_newcomers_and_waits_for_those_inside() -> None:
    admission = door()
    with admission.admit(0, LATE) as permit:
        admission.drain()
        assert admission.draining
        for refused in (admission.check_capacity, lambda: admission.admit(0, LATE)):
            with pytest.raises(Draining):
                refused()
        empty = asyncio.create_task(admission.wait_empty())
        await asyncio.sleep(0)
        assert not empty.done()
        permit.grow(100)
    await asyncio.wait_for(empty, 5)


async def test_an_empty_service_need_not_be_waited_for() -> None:
    admission = door()
    await asyncio.wait_for(admission.wait_empty(), 5)
    admission.admit(0, LATE).release()
    await asyncio.wait_for(admission.wait_empty(), 5)


def test_the_figures_stay_true_through_any_order_of_events() -> None:
    dice = random.Random(2)  # noqa: S311 - a test needs a seed, not a secret
    admission = door(max_queue=5)
    inside: list[tuple[Permit, int]] = []
    for _ in range(5000):
        held = sum(nbytes for _, nbytes in inside)
        assert (admission.depth, admission.bytes) == (len(inside), held)
        assert len(inside) <= 5
        assert held <= 1000 or len(inside) == 1
        nbytes = dice.randrange(400)
        try:
            if dice.random() < 0.5:
                inside.append((admission.admit(nbytes, LATE), nbytes))
            elif inside and dice.random() < 0.5:
                permit, before = inside.pop(dice.randrange(len(inside)))
                inside.append((permit, before))
                permit.grow(nbytes)
                inside[-1] = (permit, before + nbytes)
            elif inside:
                inside.pop(dice.randrange(len(inside)))[0].release()
        except Overloaded:
            assert len(inside) == 5 or held + nbytes > 1000


async def test_who_waits_at_the_door_enters_when_a_place_is_free() -> None:
    admission = door(max_queue=1)
    inside = admission.admit(0, LATE)
    first, second = (asyncio.ensure_future(admission.wait_for_capacity(seconds=60)) for _ in range(2))
    await asyncio.sleep(0)  # both are at the door
    inside.release()
    await first
    assert not second.done(), "one place calls in one, in the order of arrival"
    admission.admit(0, LATE).release()
    await second


async def test_the_wait_at_the_door_ends_with_a_refusal() -> None:
    admission = door(max_queue=1)
    with admission.admit(0, LATE), pytest.raises(Overloaded):
        await admission.wait_for_capacity(seconds=0.001)
    await admission.wait_for_capacity(seconds=0)  # an empty house refuses nobody


async def test_only_so_many_wait_at_the_door() -> None:
    admission = door(max_queue=1)
    inside = admission.admit(0, LATE)
    waiting = [
        asyncio.ensure_future(admission.wait_for_capacity(seconds=60)) for _ in range(LEAST_DOOR_PLACES)
    ]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await admission.wait_for_capacity(seconds=60)  # at once, or the test would take a minute
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    late = asyncio.ensure_future(admission.wait_for_capacity(seconds=60))
    for one in [*waiting[1:], late]:
        inside.release()
        await one
        inside = admission.admit(0, LATE)
    inside.release()


def test_a_longer_queue_has_a_larger_door_and_none_a_small_one() -> None:
    assert [admission_wait_slots(length) for length in (1, 8, 64, 100)] == [256, 256, 256, 400]


async def test_draining_sends_home_who_waits_at_the_door() -> None:
    admission = door(max_queue=1)
    admission.admit(0, LATE)
    waiting = asyncio.ensure_future(admission.wait_for_capacity(seconds=60))
    await asyncio.sleep(0)
    admission.drain()
    with pytest.raises(Draining):
        await waiting


async def test_the_higher_priority_enters_first_from_the_door() -> None:
    admission = door(max_queue=1)
    inside = admission.admit(0, LATE)
    waiting = {}
    for priority in (LOWEST, NORMAL, HIGHEST):
        waiting[priority] = asyncio.ensure_future(admission.wait_for_capacity(seconds=60, priority=priority))
        await asyncio.sleep(0)  # it is at the door
    for priority in (HIGHEST, NORMAL, LOWEST):
        assert not waiting[priority].done()
        inside.release()
        await waiting[priority]
        assert [one for one, work in waiting.items() if not work.done()] == list(range(priority))
        inside = admission.admit(0, LATE, priority)
    inside.release()


async def test_a_crowd_of_a_low_priority_leaves_room_at_the_door_for_a_higher_one() -> None:
    admission = door(max_queue=1)
    inside = admission.admit(0, LATE)
    crowd = [
        asyncio.ensure_future(admission.wait_for_capacity(seconds=60, priority=LOWEST))
        for _ in range(LEAST_DOOR_PLACES)
    ]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await admission.wait_for_capacity(seconds=60, priority=LOWEST)
    high = asyncio.ensure_future(admission.wait_for_capacity(seconds=60, priority=HIGHEST))
    await asyncio.sleep(0)
    assert not high.done()
    inside.release()
    await high
    admission.drain()
    await asyncio.gather(*crowd, return_exceptions=True)


def test_a_deadline_is_held_against_the_work_of_its_own_priority_and_higher_ones() -> None:
    clock = Clock()
    admission = door(max_queue=9, clock=clock)
    for _ in range(60):
        admission.observe(1, 1.0)
    permits = [admission.admit(0, LATE, priority) for priority in (LOWEST, LOWEST, NORMAL, HIGHEST)]
    for priority, seconds in ((HIGHEST, 3), (NORMAL, 4), (LOWEST, 6)):  # with itself and its batch
        with pytest.raises(Overloaded, match="more than the request's time"):
            admission.check_capacity(clock.now + seconds - 0.1, priority)
        admission.check_capacity(clock.now + seconds + 0.1, priority)
    assert admission.predicted_wait == pytest.approx(4)
    permits[0].grow(0, 2)
    permits[0].release_slot()
    assert admission.predicted_wait == pytest.approx(5)
    for permit in permits:
        permit.release()
    assert admission.predicted_wait == 0


def test_devices_share_the_work() -> None:
    clock = Clock()
    admission = door(max_queue=9, clock=clock)
    for _ in range(60):
        admission.observe(2, 2.0)
    admission.set_device_count(2)
    permits = [admission.admit(0, LATE) for _ in range(3)]
    assert admission.predicted_wait == pytest.approx(1.5)
    assert admission.predicted_answer == pytest.approx(1.5 + 0.5 + 2.0, abs=0.01)
    admission.set_device_count(0)  # none works: the service refuses everybody itself
    assert admission.predicted_wait == pytest.approx(3)
    assert len(permits) == 3

"""Admission: the bounds hold, a slot is released once, and no deadline is accepted that would break."""

import asyncio
import random
from typing import Any

import pytest

from app.batching.item import HIGHEST, LOWEST, NORMAL
from app.errors import Draining, Overloaded
from app.serving.admission import MIN_ADMISSION_WAIT_SLOTS, Admission, Permit, admission_wait_slots
from tests.support.batching import FAR, Clock


def built(max_queue: int = 2, *, clock: Clock | None = None) -> Admission:
    return Admission(max_queue, 1000, clock or Clock(), wait_seconds=60)


def measured(batch_size: int, seconds: float, clock: Clock | None = None) -> Admission:
    """One whose batches have taken so long for some time."""
    admission = built(max_queue=9, clock=clock)
    for _ in range(60):
        admission.observe(batch_size, seconds)
    return admission


async def waiting(admission: Admission, count: int = 1, **options: Any) -> list["asyncio.Task[None]"]:
    """Requests that wait for capacity, in this order."""
    tasks = [asyncio.create_task(admission.wait_for_capacity(**options)) for _ in range(count)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    return tasks


# slots and bytes


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
def test_a_permit_holds_slot_and_bytes_until_the_block_ends(error: type[BaseException]) -> None:
    admission = built()
    permit = admission.admit(300, FAR)
    permit.grow(50)
    assert (admission.depth, admission.slots, admission.bytes) == (1, 1, 350)
    with pytest.raises(error), permit:
        raise error
    assert (admission.depth, admission.slots, admission.bytes) == (0, 0, 0)


def test_a_permit_is_released_only_once() -> None:
    admission = built()
    other = admission.admit(10, FAR)
    with admission.admit(300, FAR) as permit:
        permit.release()
        permit.release()
    permit.grow(400)  # a decode that ends after its request does
    assert (admission.depth, admission.bytes) == (1, 10)
    other.release()


def test_no_more_than_max_queue_are_admitted() -> None:
    admission = built(max_queue=2)
    permits = [admission.admit(0, FAR) for _ in range(2)]
    with pytest.raises(Overloaded, match="2 of 2 slots"):
        admission.admit(0, FAR)
    permits[0].release()
    admission.check_capacity()
    with admission.admit(0, FAR):
        assert admission.depth == 2


def test_no_more_than_max_queue_bytes_are_held() -> None:
    admission = built(max_queue=9)
    admission.admit(600, FAR)
    with pytest.raises(Overloaded, match="1000 bytes"):
        admission.admit(401, FAR)
    assert (admission.depth, admission.bytes) == (1, 600)
    permit = admission.admit(300, FAR)
    with pytest.raises(Overloaded):
        permit.grow(101)
    permit.grow(100)
    assert admission.bytes == 1000
    with pytest.raises(Overloaded, match="1000 bytes"):
        admission.check_capacity()
    permit.grow(-400)
    assert admission.bytes == 600


def test_a_request_that_is_alone_is_never_rejected_for_bytes() -> None:
    admission = built()
    with admission.admit(5000, FAR) as permit:
        permit.grow(5000)
        with pytest.raises(Overloaded):
            admission.check_capacity()
    assert admission.bytes == 0


def test_the_counts_stay_true_through_any_order_of_events() -> None:
    dice = random.Random(2)  # noqa: S311 - a test needs a seed, not a secret
    admission = built(max_queue=5)
    permits: list[tuple[Permit, int]] = []
    for _ in range(5000):
        held = sum(nbytes for _, nbytes in permits)
        assert (admission.depth, admission.bytes) == (len(permits), held)
        assert len(permits) <= 5
        assert held <= 1000 or len(permits) == 1
        nbytes = dice.randrange(400)
        try:
            if dice.random() < 0.5:
                permits.append((admission.admit(nbytes, FAR), nbytes))
            elif permits and dice.random() < 0.5:
                index = dice.randrange(len(permits))
                permit, before = permits[index]
                permit.grow(nbytes)
                permits[index] = (permit, before + nbytes)
            elif permits:
                permits.pop(dice.randrange(len(permits)))[0].release()
        except Overloaded:
            assert len(permits) == 5 or held + nbytes > 1000


# time


def test_a_deadline_that_the_queue_would_break_is_rejected_with_the_wait() -> None:
    """A new request is answered after the admitted ones, itself, and with the batch that it is in."""
    clock = Clock()
    admission = measured(2, 3.0, clock)  # 1.5 s an image
    permits = [admission.admit(0, clock.now + 60) for _ in range(3)]
    assert admission.predicted_wait == pytest.approx(4.5)
    with pytest.raises(Overloaded, match=r"about 9\.0 s") as caught:
        admission.admit(0, clock.now + 8.9)
    assert caught.value.headers() == {"Retry-After": "5"}
    assert admission.depth == 3
    with admission.admit(0, clock.now + 9.1):
        assert admission.depth == 4
    permits[0].release()
    with admission.admit(0, clock.now + 7.6):
        assert admission.depth == 3


@pytest.mark.parametrize("seconds", [1, -1])
def test_a_request_that_is_alone_is_never_rejected_for_time(seconds: float) -> None:
    """However slow the last batch was; a deadline that has passed is answered as such."""
    clock = Clock()
    admission = measured(1, 3600.0, clock)
    with admission.admit(0, clock.now + seconds):
        assert admission.depth == 1


def test_the_prediction_follows_the_batches_and_after_a_reset_the_first_of_them_at_once() -> None:
    clock = Clock()
    admission = built(clock=clock)
    admission.admit(0, FAR)
    admission.check_capacity(clock.now)  # before the first batch no wait is predicted
    assert admission.predicted_wait == 0
    admission.observe(2, 2.0)
    assert admission.predicted_wait == 1.0
    admission.observe(1, 2.0)
    assert admission.predicted_wait == pytest.approx(1.2)
    for _ in range(50):
        admission.observe(4, 12.0)
    assert admission.predicted_wait == pytest.approx(3.0, abs=0.01)
    admission.flow.pace.reset()
    assert admission.predicted_wait == pytest.approx(3.0, abs=0.01)
    for seconds, expected in ((1.0, 0.5), (2.0, 0.6)):
        admission.observe(2, seconds)
        assert admission.predicted_wait == pytest.approx(expected)


def test_devices_share_the_work() -> None:
    clock = Clock()
    admission = measured(2, 2.0, clock)
    admission.set_device_count(2)
    permits = [admission.admit(0, FAR) for _ in range(3)]
    assert admission.predicted_wait == pytest.approx(1.5)
    answered = 1.5 + 0.5 + 2.0
    admission.check_capacity(clock.now + answered + 0.05)
    with pytest.raises(Overloaded):
        admission.check_capacity(clock.now + answered - 0.05)
    admission.set_device_count(0)  # none works: the service rejects all requests itself
    assert admission.predicted_wait == pytest.approx(3)
    assert len(permits) == 3


def test_a_deadline_is_held_against_the_work_of_its_own_priority_and_higher_ones() -> None:
    clock = Clock()
    admission = measured(1, 1.0, clock)
    permits = [admission.admit(0, FAR, priority) for priority in (LOWEST, LOWEST, NORMAL, HIGHEST)]
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


@pytest.mark.parametrize(("seconds", "retry_after"), [(0.0, "1"), (0.01, "1"), (1.2, "3")])
def test_a_full_queue_says_when_it_will_be_empty(seconds: float, retry_after: str) -> None:
    admission = built(max_queue=2)
    admission.observe(1, seconds)
    permits = [admission.admit(0, FAR) for _ in range(2)]
    with pytest.raises(Overloaded, match=f"try again in {retry_after} s") as caught:
        admission.check_capacity()
    assert caught.value.headers() == {"Retry-After": retry_after}
    assert len(permits) == 2


# the wait for capacity


async def test_waiting_requests_are_notified_one_for_each_slot_in_the_order_of_arrival() -> None:
    admission = built(max_queue=1)
    admitted = admission.admit(0, FAR)
    first, second = await waiting(admission, 2)
    admitted.release()
    await first
    assert not second.done()
    admission.admit(0, FAR).release()
    await second


async def test_a_request_whose_deadline_would_break_waits_too() -> None:
    """Or clients that ask again at once after such a rejection would take the cores from the work."""
    clock = Clock()
    admission = measured(1, 1.0, clock)
    admitted = admission.admit(0, FAR)
    [task] = await waiting(admission, deadline=clock.now + 2.5)
    admitted.release()
    await task
    admission.wait_seconds = 0.001
    with admission.admit(0, FAR), pytest.raises(Overloaded, match="more than the request's time"):
        await admission.wait_for_capacity(clock.now + 2.5)


async def test_the_wait_ends_with_a_rejection() -> None:
    admission = built(max_queue=1)
    admission.wait_seconds = 0.001
    with admission.admit(0, FAR), pytest.raises(Overloaded):
        await admission.wait_for_capacity()
    await admission.wait_for_capacity()  # an empty queue rejects no request


async def test_only_so_many_wait_and_a_cancelled_one_leaves_its_slot() -> None:
    assert [admission_wait_slots(length) for length in (1, 8, 64, 100)] == [256, 256, 256, 400]
    admission = built(max_queue=1)
    admitted = admission.admit(0, FAR)
    tasks = await waiting(admission, MIN_ADMISSION_WAIT_SLOTS)
    with pytest.raises(Overloaded):
        await admission.wait_for_capacity()  # at once, or the test would take a minute
    tasks[0].cancel()
    await asyncio.wait(tasks[:1])
    for task in [*tasks[1:], *await waiting(admission)]:
        admitted.release()
        await task
        admitted = admission.admit(0, FAR)


async def test_draining_rejects_new_and_waiting_requests_and_keeps_the_admitted_ones() -> None:
    admission = built(max_queue=1)
    with admission.admit(0, FAR) as permit:
        [task] = await waiting(admission)
        admission.drain()
        assert admission.draining
        with pytest.raises(Draining):
            await task
        for rejected in (admission.check_capacity, lambda: admission.admit(0, FAR)):
            with pytest.raises(Draining):
                rejected()
        permit.grow(100)
        assert (admission.depth, admission.bytes) == (1, 100)


async def test_a_higher_priority_is_notified_first() -> None:
    admission = built(max_queue=1)
    admitted = admission.admit(0, FAR)
    tasks = [(await waiting(admission, priority=priority))[0] for priority in (LOWEST, NORMAL, HIGHEST)]
    for priority in (HIGHEST, NORMAL, LOWEST):
        admitted.release()
        await tasks[priority]
        assert [task.done() for task in tasks] == [other >= priority for other in (LOWEST, NORMAL, HIGHEST)]
        admitted = admission.admit(0, FAR, priority)


async def test_many_waiting_requests_of_a_low_priority_leave_slots_for_a_higher_one() -> None:
    admission = built(max_queue=1)
    admitted = admission.admit(0, FAR)
    low = await waiting(admission, MIN_ADMISSION_WAIT_SLOTS, priority=LOWEST)
    with pytest.raises(Overloaded):
        await admission.wait_for_capacity(priority=LOWEST)
    [high] = await waiting(admission, priority=HIGHEST)
    admitted.release()
    await high
    admission.drain()
    await asyncio.gather(*low, return_exceptions=True)

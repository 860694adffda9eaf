"""Shedding: a queued item of a lower priority is removed in the step that takes its slot."""

import pytest

from app.batching.item import HIGHEST, LOWEST, NORMAL
from app.errors import Overloaded
from app.serving.admission import Admission
from tests.support.batching import FAR


class Queued:
    """A queue of items of these priorities, of which the lowest is removed first."""

    def __init__(self, *priorities: int) -> None:
        self.priorities = sorted(priorities)

    def depth_below(self, priority: int) -> int:
        return sum(queued < priority for queued in self.priorities)

    def shed(self, priority: int) -> bool:
        if not self.depth_below(priority):
            return False
        del self.priorities[0]
        return True


def full(*priorities: int) -> tuple[Admission, Queued]:
    """A full queue of items of these priorities."""
    admission, queue = Admission(len(priorities), 1000), Queued(*priorities)
    for priority in priorities:
        admission.admit(0, FAR, priority)
    admission.set_queue(queue)
    return admission, queue


def test_a_higher_priority_removes_an_item_only_when_it_takes_the_slot() -> None:
    admission, queue = full(LOWEST, NORMAL)
    with admission.admit(0, FAR, HIGHEST):
        pass  # it ends before it is decoded
    with admission.admit(0, FAR, HIGHEST) as permit:
        assert queue.priorities == [LOWEST, NORMAL]
        permit.take_slot()
        permit.take_slot()
        assert queue.priorities == [NORMAL]
    assert admission.slots == 2


def test_no_more_are_admitted_without_a_slot_than_items_can_be_removed() -> None:
    admission, queue = full(LOWEST, NORMAL, HIGHEST)
    permits = [admission.admit(0, FAR, HIGHEST) for _ in range(2)]
    for priority in (LOWEST, NORMAL, HIGHEST):
        with pytest.raises(Overloaded, match="3 of 3 slots"):
            admission.admit(0, FAR, priority)
    permits[0].release()
    admission.admit(0, FAR, HIGHEST)
    queue.priorities = [HIGHEST]  # the others have reached the device
    with pytest.raises(Overloaded, match="3 of 3 slots"):
        permits[1].take_slot()


def test_a_request_without_a_slot_takes_one_that_is_free_by_now() -> None:
    admission, queue = Admission(1, 1000), Queued(LOWEST)
    low = admission.admit(0, FAR, LOWEST)
    admission.set_queue(queue)
    high = admission.admit(0, FAR, HIGHEST)
    low.release()
    high.take_slot()
    assert (queue.priorities, admission.slots) == ([LOWEST], 1)

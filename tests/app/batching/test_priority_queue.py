"""The queue: which item is first, how waiting raises its level, which one is shed, and what that costs."""

import random
import tracemalloc
import weakref
from collections.abc import Iterable
from dataclasses import dataclass

from app.batching.item import HIGHEST, LOWEST, NORMAL
from app.batching.priority_queue import AGING_SHARE, PriorityQueue
from tests.support.batching import Clock


class Counted(float):
    """A deadline that counts how often any is compared."""

    comparisons = 0

    def __lt__(self, other: float) -> bool:
        Counted.comparisons += 1
        return float(self) < float(other)

    __hash__ = float.__hash__


def filled(clock: Clock, *items: tuple[str, str, float, int]) -> PriorityQueue[str]:
    """A queue of items, each a name, a key, the seconds until its deadline, and a priority."""
    queue: PriorityQueue[str] = PriorityQueue(clock)
    for name, key, seconds, priority in items:
        queue.push(name, key, clock.now + seconds, priority)
    return queue


def order(queue: PriorityQueue[str]) -> list[str | None]:
    """All items, each removed when it is the head."""
    names = []
    while (head := queue.head()) is not None:
        names.append(queue.pop(head[0]))
    return names


def test_the_higher_priority_is_first_then_the_earlier_deadline_then_the_earlier_arrival() -> None:
    queue = filled(
        Clock(),
        *[("low", "x", 1, LOWEST), ("late", "y", 90, HIGHEST), ("soon", "z", 50, HIGHEST)],
        *[("normal", "x", 5, NORMAL), ("as late", "x", 90, HIGHEST)],
    )
    assert order(queue) == ["soon", "late", "as late", "normal", "low"]


def test_a_group_is_taken_in_that_order_too() -> None:
    queue = filled(
        Clock(),
        *[("low", "x", 1, LOWEST), ("late", "x", 90, HIGHEST), ("soon", "x", 50, HIGHEST)],
        *[("other", "y", 70, HIGHEST), ("last", "y", 99, LOWEST)],
    )
    assert queue.head() == ("x", "soon")
    assert [queue.size("x"), queue.size("y"), queue.size("z"), len(queue)] == [3, 2, 0, 5]
    assert [queue.pop("x") for _ in range(4)] == ["soon", "late", "low", None]
    assert [queue.pop("y"), queue.head(), queue.pop("y"), queue.head()] == [
        "other",
        ("y", "last"),
        "last",
        None,
    ]
    assert queue.pop("never seen") is None


def test_a_discarded_item_is_neither_head_nor_next_and_is_not_promoted() -> None:
    clock = Clock()
    queue: PriorityQueue[str] = PriorityQueue(clock)
    first = queue.push("first", "x", clock.now + 10, LOWEST)
    queue.push("second", "x", clock.now + 20, LOWEST)
    assert [queue.discard(first), queue.discard(first)] == ["first", None]
    clock.now += 10
    assert (queue.head(), queue.size("x"), len(queue)) == (("x", "second"), 1, 1)
    assert [queue.pop("x"), queue.pop("x"), queue.drain()] == ["second", None, []]


def test_a_key_is_freed_with_the_last_item_of_its_group() -> None:
    class Key:
        """As a model is."""

    queue: PriorityQueue[str] = PriorityQueue(Clock())
    key = Key()
    watch = weakref.ref(key)
    queue.push("item", key, 2000, NORMAL)
    assert queue.pop(key) == "item"
    del key
    assert watch() is None


def test_drain_removes_all() -> None:
    queue: PriorityQueue[int] = PriorityQueue(Clock())
    for number in range(3000):
        queue.push(number, number % 7, -number, number % 3)
    assert sorted(queue.drain()) == list(range(3000))
    assert (len(queue), queue.head(), queue.size(0)) == (0, None, 0)


def test_waiting_raises_by_a_level_for_each_quarter_of_the_time() -> None:
    clock = Clock()
    queue = filled(clock, ("low", "x", 40, LOWEST))
    queue.push("normal", "y", clock.now + 100, NORMAL)
    assert queue.head() == ("y", "normal")
    clock.now += 40 * AGING_SHARE
    assert queue.head() == ("x", "low")  # on one level with the normal one, and more urgent
    queue.push("high", "z", clock.now + 300, HIGHEST)
    assert queue.head() == ("z", "high")
    clock.now += 40 * AGING_SHARE
    assert order(queue) == ["low", "high", "normal"]


def test_no_item_starves_under_a_flood_of_the_highest_priority() -> None:
    """One batch a second, two new ones of the highest priority: the lowest goes at half of its time."""
    clock = Clock()
    queue = filled(clock, ("low", "x", 30, LOWEST))
    for second in range(31):
        for _ in range(2):
            queue.push("high", "y", clock.now + 30, HIGHEST)
        head = queue.head()
        assert head is not None
        if queue.pop(head[0]) == "low":
            assert second == 15
            return
        clock.now += 1
    raise AssertionError("the lowest never went")


def test_the_newest_of_the_lowest_priority_is_shed_whatever_its_level_is_by_now() -> None:
    clock = Clock()
    queue = filled(
        clock,
        *[("low 1", "x", 30, LOWEST), ("normal", "x", 30, NORMAL), ("low 2", "y", 30, LOWEST)],
        *[("high", "x", 30, HIGHEST)],
    )
    clock.now += 29
    assert queue.head() is not None
    assert queue.pop_newest_below(LOWEST) is None
    shed = [queue.pop_newest_below(HIGHEST) for _ in range(4)]
    assert shed == ["low 2", "low 1", "normal", None]
    assert (queue.head(), len(queue), queue.size("x"), queue.size("y")) == (("x", "high"), 1, 1, 0)


def test_a_batch_out_of_ten_thousand_items_costs_no_scan() -> None:
    dice = random.Random(3)  # noqa: S311 - a test needs a seed, not a secret
    queue: PriorityQueue[int] = PriorityQueue(Clock())
    for number in range(10_000):
        queue.push(number, number % 1000, Counted(1e6 + dice.random()), number % 3)
    for _ in range(20):
        Counted.comparisons = 0
        head = queue.head()
        assert head is not None
        assert queue.size(head[0]) > 0
        for _ in range(8):
            queue.pop(head[0])
        assert Counted.comparisons < 500


def test_thirty_thousand_cancelled_items_leave_no_memory_behind() -> None:
    clock = Clock()
    queue: PriorityQueue[int] = PriorityQueue(clock)
    queue.push(-1, "x", clock.now + 1e9, LOWEST)
    queue.push(-2, "y", clock.now, LOWEST)
    tracemalloc.start()
    for number in range(30_000):
        queue.discard(queue.push(number, "x", clock.now + 1e6 - number, number % 3))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 500_000
    assert (len(queue), queue.pop("x"), queue.pop("y")) == (2, -1, -2)


@dataclass(frozen=True)
class Plain:
    """What a plain search knows of an item."""

    ticket: int
    key: int
    arrived: float
    deadline: float
    priority: int

    def rank(self, now: float) -> tuple[int, float, int]:
        """The smallest is first."""
        promotions = int((now - self.arrived) / (AGING_SHARE * (self.deadline - self.arrived)))
        return -min(HIGHEST, self.priority + promotions), self.deadline, self.ticket


def test_it_agrees_with_a_plain_search_through_any_order_of_events() -> None:
    dice = random.Random(5)  # noqa: S311 - a test needs a seed, not a secret
    clock = Clock()
    queue: PriorityQueue[int] = PriorityQueue(clock)
    plain: dict[int, Plain] = {}

    def first(items: Iterable[int]) -> int | None:
        return min(items, key=lambda item: plain[item].rank(clock.now), default=None)

    for number in range(5000):
        clock.now += dice.choice([0, 0, 0, 0.5])
        event, key = dice.random(), dice.randrange(5)
        head = queue.head()
        assert (head and head[1]) == first(plain)
        assert head is None or head[0] == plain[head[1]].key
        if event < 0.5:
            deadline, priority = clock.now + 2 ** dice.randrange(2, 6), dice.randrange(3)  # exact in binary
            ticket = queue.push(number, key, deadline, priority)
            plain[number] = Plain(ticket, key, clock.now, deadline, priority)
        elif event < 0.65 and plain:
            item = dice.choice(list(plain))
            assert queue.discard(plain.pop(item).ticket) == item
        elif event < 0.98:
            item = queue.pop(key)
            assert item == first(item for item, known in plain.items() if known.key == key)
            plain.pop(item, None)
        assert len(queue) == len(plain)
        assert queue.size(key) == sum(known.key == key for known in plain.values())

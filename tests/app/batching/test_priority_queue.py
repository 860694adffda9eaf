"""The queue with priorities: who comes first, how waiting raises, who is shed, and at what price."""

import random
import tracemalloc

from app.batching.item import HIGHEST, LOWEST, NORMAL
from app.batching.priority_queue import AGEING, RankedQueue


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def filled(clock: Clock, *waiters: tuple[str, str, float, int]) -> RankedQueue[str]:
    queue: RankedQueue[str] = RankedQueue(clock)
    for name, key, seconds, priority in waiters:
        queue.push(name, key, clock.now + seconds, priority)
    return queue


def order(queue: RankedQueue[str]) -> list[str]:
    """Everybody, each the first of all at the time."""
    found = []
    while (head := queue.head()) is not None:
        found.append(queue.pop(head[0]))
    return [name for name in found if name is not None]


def test_the_higher_priority_is_first_and_within_it_the_earlier_deadline() -> None:
    queue = filled(
        Clock(),
        *[("low", "x", 1, LOWEST), ("late", "y", 90, HIGHEST), ("soon", "z", 50, HIGHEST)],
        *[("normal", "x", 5, NORMAL)],
    )
    assert order(queue) == ["soon", "late", "normal", "low"]


def test_a_batch_is_filled_up_with_lower_ones_of_its_group() -> None:
    queue = filled(Clock(), ("low", "x", 10, LOWEST), ("high", "x", 90, HIGHEST), ("other", "y", 5, NORMAL))
    assert queue.head() == ("x", "high")
    assert queue.size("x") == 2
    assert [queue.pop("x"), queue.pop("x"), queue.pop("x")] == ["high", "low", None]
    assert (queue.head(), len(queue)) == (("y", "other"), 1)


def test_waiting_raises_by_a_level_for_each_quarter_of_the_time() -> None:
    clock = Clock()
    queue = filled(clock, ("low", "x", 40, LOWEST))
    queue.push("normal", "y", clock.now + 100, NORMAL)
    assert queue.head() == ("y", "normal")
    clock.now += 40 * AGEING
    assert queue.head() == ("x", "low")  # on one level with the normal one, and more urgent
    queue.push("high", "z", clock.now + 300, HIGHEST)
    assert queue.head() == ("z", "high")
    clock.now += 40 * AGEING
    assert order(queue) == ["low", "high", "normal"]


def test_nobody_starves_under_a_flood_of_the_highest() -> None:
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


def test_who_has_left_does_not_rise() -> None:
    clock = Clock()
    queue: RankedQueue[str] = RankedQueue(clock)
    ticket = queue.push("gone", "x", clock.now + 10, LOWEST)
    assert [queue.discard(ticket), queue.discard(ticket)] == ["gone", None]
    clock.now += 10
    assert (queue.head(), len(queue), queue.drain()) == (None, 0, [])


def test_a_storm_of_gone_callers_leaves_no_memory_behind() -> None:
    clock = Clock()
    queue: RankedQueue[int] = RankedQueue(clock)
    queue.push(-1, "x", clock.now + 1e9, LOWEST)
    tracemalloc.start()
    for number in range(20_000):
        queue.discard(queue.push(number, "x", clock.now + 1e6, number % 3))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 500_000
    assert queue.drain() == [-1]


def test_it_agrees_with_a_plain_search_through_any_order_of_events() -> None:
    dice = random.Random(5)  # noqa: S311 - a test needs a seed, not a secret
    clock = Clock()
    queue: RankedQueue[int] = RankedQueue(clock)
    plain: dict[int, tuple[float, float, int, int]] = {}  # by ticket: arrival, deadline, priority, key

    def rank(ticket: int) -> tuple[int, float]:
        arrived, deadline, priority, _ = plain[ticket]
        risen = int((clock.now - arrived) / (AGEING * (deadline - arrived)) + 1e-9)
        return -min(HIGHEST, priority + risen), deadline

    for number in range(5000):
        clock.now += dice.choice([0, 0, 0.5])
        event = dice.random()
        if event < 0.5:
            deadline, key, priority = (
                clock.now + 2 ** dice.randrange(2, 6),
                dice.randrange(4),
                dice.randrange(3),
            )
            ticket = queue.push(number, key, deadline, priority)
            plain[ticket] = (clock.now, deadline, priority, key)
        elif event < 0.7 and plain:
            ticket = dice.choice(list(plain))
            assert queue.discard(ticket) is not None
            del plain[ticket]
        head = queue.head()
        assert (head is None) == (not plain)
        if head is not None:
            first = min(plain, key=rank)
            [found] = [ticket for ticket in plain if ticket == _ticket_of(queue, head[1])]
            assert rank(found) == rank(first)
            if event > 0.8:
                assert queue.pop(head[0]) == head[1]
                del plain[found]
        assert len(queue) == len(plain)


def _ticket_of(queue: RankedQueue[int], waiter: int) -> int:
    return next(ticket for ticket, entry in queue._entries.items() if entry.waiter == waiter)

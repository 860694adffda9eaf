"""The queue in groups: who comes next, and at what price."""

import heapq
import random
import tracemalloc

from app.batching.priority_queue import GroupedQueue, Position


class Counted(float):
    """A deadline that counts how often any is compared."""

    comparisons = 0

    def __lt__(self, other: float) -> bool:
        Counted.comparisons += 1
        return float(self) < float(other)

    __hash__ = float.__hash__


def test_the_head_is_the_most_urgent_of_all_and_a_group_goes_by_deadline_then_arrival() -> None:
    queue: GroupedQueue[str] = GroupedQueue()
    for name, key, deadline in [("a", "x", 5), ("b", "y", 3), ("c", "x", 4), ("d", "x", 5), ("e", "y", 9)]:
        queue.push(name, key, deadline)
    assert queue.head() == ("y", "b")
    assert [queue.size("x"), queue.size("y"), queue.size("z"), len(queue)] == [3, 2, 0, 5]
    assert [queue.pop("x") for _ in range(4)] == ["c", "a", "d", None]
    assert [queue.pop("y"), queue.head(), queue.pop("y"), queue.head()] == ["b", ("y", "e"), "e", None]
    assert queue.pop("never seen") is None


def test_who_has_left_is_neither_head_nor_next() -> None:
    queue: GroupedQueue[str] = GroupedQueue()
    first = queue.push("first", "x", 1)
    queue.push("second", "x", 2)
    assert [queue.discard(first), queue.discard(first)] == ["first", None]
    assert (queue.head(), queue.size("x"), len(queue)) == (("x", "second"), 1, 1)
    assert [queue.pop("x"), queue.pop("x")] == ["second", None]


def test_drain_takes_everybody() -> None:
    queue: GroupedQueue[int] = GroupedQueue()
    for number in range(3000):
        queue.push(number, number % 7, -number)
    assert sorted(queue.drain()) == list(range(3000))
    assert (len(queue), queue.head(), queue.size(0)) == (0, None, 0)


def test_a_batch_of_ten_thousand_waiters_costs_no_scan() -> None:
    dice = random.Random(3)  # noqa: S311 - a test needs a seed, not a secret
    queue: GroupedQueue[int] = GroupedQueue()
    for number in range(10_000):
        queue.push(number, number % 1000, Counted(dice.random()))
    for _ in range(20):
        Counted.comparisons = 0
        head = queue.head()
        assert head is not None
        assert queue.size(head[0]) > 0
        for _ in range(8):
            queue.pop(head[0])
        assert Counted.comparisons < 500


def test_a_storm_of_gone_callers_leaves_no_memory_behind() -> None:
    queue: GroupedQueue[int] = GroupedQueue()
    queue.push(-1, "x", 1e9)
    queue.push(-2, "y", 0)
    tracemalloc.start()
    for number in range(30_000):
        queue.discard(queue.push(number, "x", number))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 500_000
    assert (len(queue), queue.pop("x"), queue.pop("y")) == (2, -1, -2)


def test_it_agrees_with_a_plain_search_through_any_order_of_events() -> None:
    dice = random.Random(4)  # noqa: S311 - a test needs a seed, not a secret
    queue: GroupedQueue[Position] = GroupedQueue()
    plain: dict[Position, int] = {}
    for number in range(20_000):
        event = dice.random()
        if event < 0.5:
            deadline, key = dice.randrange(50), dice.randrange(6)
            plain[queue.push((deadline, number), key, deadline)] = key
        elif event < 0.7 and plain:
            place = dice.choice(list(plain)[:9])
            assert queue.discard(place) is not None
            del plain[place]
        elif event < 0.98:
            key = dice.randrange(6)
            expected = min((place for place, own in plain.items() if own == key), default=None)
            found = queue.pop(key)
            assert (found is None) == (expected is None)
            if expected is not None and found is not None:
                assert found[0] == expected[0]
                del plain[expected]
        head = queue.head()
        assert (head is None) == (not plain)
        assert head is None or head[0] == plain[heapq.nsmallest(1, plain)[0]]
        assert len(queue) == len(plain)

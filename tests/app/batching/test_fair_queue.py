"""The fair queue: flows share the devices, priorities go before, and nothing of an idle flow is kept."""

import random
import weakref

from app.batching.fair_queue import FairQueue
from app.batching.flow import Flow
from app.batching.item import HIGHEST, LOWEST, NORMAL
from tests.support.batching import FAR, Clock


def flow_of(max_batch: int, seconds: float) -> Flow:
    """A flow whose items take so many seconds each."""
    flow = Flow(max_batch)
    flow.pace.observe(1, seconds)
    return flow


class Bench:
    """A queue of two flows: the items of `slow` take a hundred times as long as those of `quick`."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.queue: FairQueue[str] = FairQueue(self.clock)
        self.quick, self.slow = flow_of(4, 0.01), flow_of(4, 1.0)

    def push(self, flow: Flow, count: int, priority: int = NORMAL, seconds: float = FAR) -> None:
        name = "quick" if flow is self.quick else "slow"
        for _ in range(count):
            self.queue.push(name, name, self.clock.now + seconds, priority, flow)

    def batch(self) -> list[str]:
        """The items of the next batch; the clock moves on by the time that they take."""
        head = self.queue.head()
        assert head is not None
        flow, key = head
        items: list[str] = []
        while len(items) < flow.batch_limit and (item := self.queue.pop(flow, key)) is not None:
            items.append(item)
        flow.charge(len(items))
        self.clock.now += len(items) * flow.pace.per_item
        return items

    def order(self, batches: int) -> list[str]:
        return [self.batch()[0] for _ in range(batches)]


def test_a_crowd_of_slow_items_costs_a_quick_one_no_more_than_the_batch_that_runs() -> None:
    bench = Bench()
    bench.push(bench.slow, 100)
    bench.order(3)
    for _ in range(5):
        bench.push(bench.quick, 1)
        assert bench.order(2) == ["quick", "slow"]


def test_a_crowd_that_has_aged_does_not_go_before_fresh_items_of_another_flow() -> None:
    bench = Bench()
    bench.push(bench.slow, 100, seconds=30)
    bench.clock.now += 29
    bench.order(1)
    bench.push(bench.quick, 1, seconds=30)
    assert bench.order(1) == ["quick"]


def test_both_get_the_same_part_of_the_devices_while_both_wait() -> None:
    bench = Bench()
    bench.push(bench.slow, 1000)
    bench.push(bench.quick, 1000)
    order = bench.order(102)
    assert (order.count("slow"), order.count("quick")) == (2, 100)


def test_an_idle_flow_saves_no_time_up() -> None:
    bench = Bench()
    bench.push(bench.slow, 100)
    bench.order(20)
    bench.push(bench.quick, 10_000)
    assert 1 <= bench.order(102).index("slow") <= 100, "it catches up with the last batch alone"


def test_a_higher_priority_goes_before_whatever_its_flow_has_had() -> None:
    bench = Bench()
    bench.push(bench.slow, 8, HIGHEST)
    bench.push(bench.quick, 8, NORMAL)
    assert bench.order(4) == ["slow", "slow", "quick", "quick"]
    bench.push(bench.slow, 8, LOWEST, seconds=100)
    bench.push(bench.quick, 8, NORMAL, seconds=100)
    bench.clock.now += 26  # the low ones have risen to the level of the others
    bench.slow.seconds = bench.quick.seconds - 1
    assert bench.order(1) == ["slow"]


def test_a_batch_of_a_flow_takes_no_longer_than_it_may() -> None:
    flow = Flow(8)
    assert flow.batch_limit == 8
    flow.longest = 0.1
    assert flow.batch_limit == 8  # nothing is known yet
    flow.pace.observe(4, 0.1)
    assert flow.batch_limit == 4
    flow.pace.observe(1, 9.0)
    assert flow.batch_limit == 1
    flow.longest = None
    assert flow.batch_limit == 8


def test_the_newest_item_of_the_lowest_priority_of_all_flows_is_shed() -> None:
    bench = Bench()
    bench.push(bench.slow, 1, LOWEST)
    bench.push(bench.quick, 1, LOWEST)
    bench.push(bench.slow, 1, NORMAL)
    assert bench.queue.size_below(HIGHEST) == 3
    shed = [bench.queue.pop_newest_below(HIGHEST) for _ in range(4)]
    assert shed == ["quick", "slow", "slow", None]


def test_random_items_come_out_once_and_an_empty_queue_holds_no_flow() -> None:
    source = random.Random(7)  # noqa: S311  # no secret
    clock, flows = Clock(), [flow_of(3, source.random()) for _ in range(4)]
    queue: FairQueue[int] = FairQueue(clock)
    left: set[int] = set()
    tickets: dict[int, tuple[Flow, int]] = {}
    for number in range(3000):
        clock.now += source.random()
        flow = source.choice(flows)
        tickets[number] = (
            flow,
            queue.push(
                number,
                (flow, source.randrange(3)),
                clock.now + 20 * source.random(),
                source.randrange(3),
                flow,
            ),
        )
        left.add(number)
        if source.random() < 0.3:
            gone = source.choice(sorted(left))
            queue.discard(*tickets[gone])
            left.discard(gone)
        if source.random() < 0.6 and (head := queue.head()) is not None:
            item = queue.pop(*head)
            assert item in left
            left.discard(item)
        assert len(queue) == len(left)
    left -= set(queue.drain())
    assert (left, len(queue), queue.head()) == (set(), 0, None)
    tickets.clear()
    held = [weakref.ref(flow) for flow in flows]
    del flow, flows, head
    assert [one() for one in held] == [None] * 4

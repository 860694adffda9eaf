"""A discrete-event model of replicas behind a balancer: `Fleet(...).run(due_times)`.

    due ─► balancer ─► Admission (the service's own, on the model's clock) ─► preparation ─► queue ─► device
                          └─ full: a wait of ADMISSION_WAIT_SECONDS, then 429

A replica is one device that runs one batch at a time: all waiting images when it becomes free, up to
`max_batch`. The times of batches, of decoding and of the network are drawn from measured ones. All images
have one canvas size; refused clients do not send again; replicas share no processors.
"""

import heapq
import itertools
import math
import random
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from app.errors import Overloaded
from app.serving.admission import ADMISSION_WAIT_SECONDS, Admission, Permit, admission_wait_slots
from bench.capacity.scaling import Autoscaler, Gauges, Scaling
from bench.harness.times import ServiceTimes, nearest_size

UNLIMITED_BYTES = 1 << 60  # bytes are not modelled


@dataclass(frozen=True)
class FleetConfig:
    """A replica's settings, and the balancer: `random`, `turns` (round robin), `two` (the emptier of two).

    With `retry_elsewhere`, a request that finds the chosen replica full tries another one before it waits.
    Ray's proxy has a queue of its own: `wait_slots` and `wait_seconds` then describe that queue.
    """

    max_batch: int = 8
    max_queue: int = 64
    timeout: float = 30.0
    balancer: str = "two"
    retry_elsewhere: bool = False
    wait_slots: int | None = None  # requests that may wait for admission; None: as many as the service allows
    wait_seconds: float = ADMISSION_WAIT_SECONDS

    @property
    def max_waiting(self) -> int:
        """How many requests may wait for admission to a replica."""
        return admission_wait_slots(self.max_queue) if self.wait_slots is None else self.wait_slots


@dataclass
class FleetResult:
    """All requests by status; of those answered when they were due and finished, and seconds between."""

    due: "array[float]" = field(default_factory=lambda: array("d"))
    latencies: "array[float]" = field(default_factory=lambda: array("d"))
    finished: "array[float]" = field(default_factory=lambda: array("d"))
    statuses: Counter[int] = field(default_factory=Counter)
    replicas: list[tuple[float, int]] = field(default_factory=list)  # moment, how many are ready

    @property
    def requests(self) -> int:
        """All of them, 1 at least: shares divide by it."""
        return max(1, self.statuses.total())


@dataclass(eq=False, slots=True)
class _Request:
    due: float
    deadline: float
    permit: Permit | None = None
    waiting: bool = False


class _Replica:
    __slots__ = ("admission", "busy", "busy_seconds", "late", "queue", "started", "wait_queue", "waiting")

    def __init__(self, config: FleetConfig, clock: Callable[[], float]) -> None:
        self.admission = Admission(config.max_queue, UNLIMITED_BYTES, clock)
        self.queue: deque[_Request] = deque()
        self.wait_queue: deque[_Request] = deque()  # for admission
        self.waiting = 0  # of `wait_queue`, without those whose wait is over
        self.busy, self.started, self.busy_seconds = False, 0.0, 0.0
        self.late = 0.0  # how much later the running batch ends than was scheduled

    def seconds_busy(self, now: float) -> float:
        """Until now, the running batch included."""
        return self.busy_seconds + (now - self.started if self.busy else 0.0)


class Fleet:
    """Replicas and their events; each fleet runs once."""

    def __init__(
        self,
        times: ServiceTimes,
        config: FleetConfig,
        replicas: int,
        scaling: Scaling | None = None,
        seed: int = 1,
    ) -> None:
        self._times, self._config = times, config
        self._draw = random.Random(seed)  # noqa: S311  # a model, not a secret
        self._batches = dict(times.batches)
        self._max_batch = min(config.max_batch, max(self._batches))
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = itertools.count()
        self._turn = itertools.count()
        self._replicas = [self._new_replica() for _ in range(replicas)]
        self._draining: list[_Replica] = []  # they finish their requests, and take no others
        self._autoscaler = Autoscaler(scaling, replicas) if scaling else None
        self._result = FleetResult()

    def run(self, due: Iterable[float]) -> FleetResult:
        """All requests to their end, due in rising order."""
        source = iter(due)
        self._note_replicas()
        self._schedule_next(source)
        if self._autoscaler:
            self._schedule(self._autoscaler.rules.period, self._scale)
        while self._events:
            self._now, _, event, arguments = heapq.heappop(self._events)
            event(*arguments)
        self._note_replicas()
        return self._result

    def _new_replica(self) -> _Replica:
        return _Replica(self._config, lambda: self._now)

    def _note_replicas(self) -> None:
        self._result.replicas.append((self._now, len(self._replicas)))

    def _schedule(self, moment: float, event: Callable[..., None], *arguments: object) -> None:
        heapq.heappush(self._events, (moment, next(self._order), event, arguments))

    def _schedule_next(self, source: Iterable[float]) -> None:
        for moment in source:
            self._schedule(moment, self._arrive, moment, source)
            return
        self._autoscaler = None  # no more requests

    def _arrive(self, due: float, source: Iterable[float]) -> None:
        self._schedule_next(source)
        request = _Request(due, due + self._config.timeout)
        replica = self._choose()
        if self._admit(replica, request):
            return
        if self._config.retry_elsewhere and self._admit(self._choose(), request):
            return
        if replica.waiting >= self._config.max_waiting:
            self._finish(request, 429)
            return
        request.waiting = True
        replica.waiting += 1
        replica.wait_queue.append(request)
        self._schedule(self._now + self._config.wait_seconds, self._end_wait, replica, request)

    def _choose(self) -> _Replica:
        count, balancer = len(self._replicas), self._config.balancer
        if balancer == "turns":
            return self._replicas[next(self._turn) % count]
        first = self._replicas[int(self._draw.random() * count)]
        if balancer == "random":
            return first
        second = self._replicas[int(self._draw.random() * count)]
        return min(first, second, key=lambda replica: replica.admission.depth + replica.waiting)

    def _admit(self, replica: _Replica, request: _Request) -> bool:
        try:
            request.permit = replica.admission.admit(0, request.deadline)
        except Overloaded:
            return False
        self._schedule(self._now + self._draw.choice(self._times.outside), self._prepared, replica, request)
        return True

    def _end_wait(self, replica: _Replica, request: _Request) -> None:
        """Admit or refuse a request that still waits."""
        if request.waiting:
            request.waiting = False
            replica.waiting -= 1
            if not self._admit(replica, request):
                self._finish(request, 429)

    def _prepared(self, replica: _Replica, request: _Request) -> None:
        replica.queue.append(request)
        if replica.busy:
            replica.late += self._times.per_arrival
        else:
            self._start_batch(replica, fresh=True)

    def _start_batch(self, replica: _Replica, fresh: bool = False) -> None:
        """The next batch, if requests are queued; `fresh`: the device was idle."""
        batch: list[_Request] = []
        while replica.queue and len(batch) < self._max_batch:
            request = replica.queue.popleft()
            if request.deadline > self._now:
                batch.append(request)
            else:
                self._release(replica, request, 504)
        if batch:
            replica.busy, replica.started = True, self._now
            seconds = self._draw.choice(self._seconds(len(batch), fresh))
            self._schedule(self._now + seconds, self._end_batch, replica, batch, seconds)

    def _seconds(self, size: int, fresh: bool) -> Sequence[float]:
        if fresh and size in self._times.fresh:
            return self._times.fresh[size]
        if size not in self._batches:
            self._batches[size] = nearest_size(self._times.batches, size)
        return self._batches[size]

    def _end_batch(self, replica: _Replica, batch: list[_Request], seconds: float) -> None:
        if late := replica.late:
            replica.late = 0.0
            self._schedule(self._now + late, self._end_batch, replica, batch, seconds + late)
            return
        replica.admission.observe(len(batch), seconds)
        replica.busy = False
        replica.busy_seconds += seconds
        for request in batch:
            self._release(replica, request, 200 if request.deadline >= self._now else 504)
        self._start_batch(replica)

    def _release(self, replica: _Replica, request: _Request, status: int) -> None:
        """Finish an admitted request, and admit the next one that waits."""
        if request.permit is not None:
            request.permit.release()
        self._finish(request, status)
        while replica.wait_queue:
            first = replica.wait_queue.popleft()
            if first.waiting:
                self._end_wait(replica, first)
                return

    def _finish(self, request: _Request, status: int) -> None:
        self._result.statuses[status] += 1
        if status == 200:
            self._result.due.append(request.due)
            self._result.latencies.append(self._now - request.due)
            self._result.finished.append(self._now)

    def _scale(self) -> None:
        """Once a period: show the gauges to the autoscaler, and follow its decision."""
        if self._autoscaler is None:
            return
        self._schedule(self._now + self._autoscaler.rules.period, self._scale)
        busy = sum(replica.seconds_busy(self._now) for replica in [*self._replicas, *self._draining])
        queue = sum(len(replica.queue) for replica in self._replicas)
        wait = math.fsum(replica.admission.predicted_wait for replica in self._replicas)
        change = self._autoscaler.decide(Gauges(self._now, busy, queue, wait))
        for _ in range(change):
            self._schedule(self._now + self._autoscaler.rules.start_seconds, self._add_replica)
        for _ in range(min(-change, len(self._replicas) - 1)):
            self._draining.append(self._replicas.pop())
        if change < 0:
            self._note_replicas()

    def _add_replica(self) -> None:
        self._replicas.append(self._new_replica())
        self._note_replicas()

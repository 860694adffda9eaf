"""A discrete-event model of replicas behind a balancer: `Fleet(...).run(due_times)`.

    due ─► balancer ─► Admission (the service's own, on the model's clock) ─► preparation ─► queue ─► device
                          └─ no place: DOOR_SECONDS at the door, then 429

A replica is one device that runs a batch at a time: all who wait as it becomes free, up to `max_batch`. How
long that takes, and how long decoding and the way there and back, is drawn from measured times. All images
are of one canvas; refused clients do not ask again; processors are not shared between replicas.
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
from app.serving.admission import DOOR_SECONDS, Admission, Permit, door_places
from bench.capacity.scaling import Autoscaler, Gauges, Scaling
from bench.harness.times import ServiceTimes

ROOMY = 1 << 60  # bytes are not modelled


@dataclass(frozen=True)
class Rules:
    """One replica's settings, and how a replica is chosen: `random`, `turns`, `two` (the emptier of two).

    With `elsewhere`, who finds the chosen replica full is sent to another before it waits at a door. That is
    the replica's own, or the queue of what stands in front of it: Ray's holds as many as all replicas do.
    """

    max_batch: int = 8
    max_queue: int = 64
    timeout: float = 30.0
    balancer: str = "two"
    elsewhere: bool = False
    door_places: int | None = None  # of a replica; None: as the service has them
    door_seconds: float = DOOR_SECONDS

    @property
    def most_at_door(self) -> int:
        """How many may wait at a replica's door."""
        return door_places(self.max_queue) if self.door_places is None else self.door_places


@dataclass
class Outcome:
    """What became of the requests: moments that they were due, seconds to their answer, and what else."""

    due: "array[float]" = field(default_factory=lambda: array("d"))
    latencies: "array[float]" = field(default_factory=lambda: array("d"))
    finished: "array[float]" = field(default_factory=lambda: array("d"))
    statuses: Counter[int] = field(default_factory=Counter)
    replicas: list[tuple[float, int]] = field(default_factory=list)  # moment, how many are ready


@dataclass(eq=False, slots=True)
class _Request:
    due: float
    deadline: float
    permit: Permit | None = None
    at_door: bool = False


class _Replica:
    __slots__ = ("admission", "began", "busy", "busy_seconds", "door", "late", "queue", "waiting")

    def __init__(self, rules: Rules, clock: Callable[[], float]) -> None:
        self.admission = Admission(rules.max_queue, ROOMY, clock)
        self.queue: deque[_Request] = deque()
        self.door: deque[_Request] = deque()
        self.waiting = 0  # at the door; those in `door` whose time was up are no longer among them
        self.busy, self.began, self.busy_seconds = False, 0.0, 0.0
        self.late = 0.0  # by how much the batch that runs ends later than was expected

    def seconds_busy(self, now: float) -> float:
        """Until now, the batch that runs included."""
        return self.busy_seconds + (now - self.began if self.busy else 0.0)


class Fleet:
    """Replicas that take what comes; each fleet runs once."""

    def __init__(
        self,
        times: ServiceTimes,
        rules: Rules,
        replicas: int,
        scaling: Scaling | None = None,
        seed: int = 1,
    ) -> None:
        self._times, self._rules = times, rules
        self._draw = random.Random(seed)  # noqa: S311  # a model, not a secret
        self._batches = {size: list(found) for size, found in times.batches.items()}
        self._max_batch = min(rules.max_batch, max(self._batches))
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = itertools.count()
        self._turn = itertools.count()
        self._replicas = [self._new() for _ in range(replicas)]
        self._gone: list[_Replica] = []  # drained: they finish what they have, and take nothing
        self._autoscaler = Autoscaler(scaling, replicas) if scaling else None
        self._outcome = Outcome()

    def run(self, due: Iterable[float]) -> Outcome:
        """All requests to their end, due in rising order."""
        source = iter(due)
        self._outcome.replicas.append((0.0, len(self._replicas)))
        self._next_due(source)
        if self._autoscaler:
            self._at(self._autoscaler.rules.period, self._scale)
        while self._events:
            self._now, _, what, arguments = heapq.heappop(self._events)
            what(*arguments)
        self._outcome.replicas.append((self._now, len(self._replicas)))
        return self._outcome

    def _new(self) -> _Replica:
        return _Replica(self._rules, lambda: self._now)

    def _at(self, moment: float, what: Callable[..., None], *arguments: object) -> None:
        heapq.heappush(self._events, (moment, next(self._order), what, arguments))

    def _next_due(self, source: Iterable[float]) -> None:
        for moment in source:
            self._at(moment, self._arrive, moment, source)
            return
        self._autoscaler = None  # nothing comes any more

    def _arrive(self, due: float, source: Iterable[float]) -> None:
        self._next_due(source)
        request = _Request(due, due + self._rules.timeout)
        replica = self._choose()
        if self._enter(replica, request):
            return
        if self._rules.elsewhere and self._enter(self._choose(), request):
            return
        if replica.waiting >= self._rules.most_at_door:
            self._end(request, 429)
            return
        request.at_door = True
        replica.waiting += 1
        replica.door.append(request)
        self._at(self._now + self._rules.door_seconds, self._leave_door, replica, request)

    def _choose(self) -> _Replica:
        many, balancer = len(self._replicas), self._rules.balancer
        if balancer == "turns":
            return self._replicas[next(self._turn) % many]
        one = self._replicas[int(self._draw.random() * many)]
        if balancer == "random":
            return one
        other = self._replicas[int(self._draw.random() * many)]
        return min(one, other, key=lambda replica: replica.admission.depth + replica.waiting)

    def _enter(self, replica: _Replica, request: _Request) -> bool:
        try:
            request.permit = replica.admission.admit(0, request.deadline)
        except Overloaded:
            return False
        self._at(self._now + self._draw.choice(self._times.outside), self._prepared, replica, request)
        return True

    def _leave_door(self, replica: _Replica, request: _Request) -> None:
        if request.at_door:
            request.at_door = False
            replica.waiting -= 1
            if not self._enter(replica, request):
                self._end(request, 429)

    def _prepared(self, replica: _Replica, request: _Request) -> None:
        replica.queue.append(request)
        if replica.busy:
            replica.late += self._times.per_arrival
        else:
            self._begin(replica, fresh=True)

    def _begin(self, replica: _Replica, fresh: bool = False) -> None:
        """The next batch, where somebody waits; `fresh` where the device was idle."""
        batch: list[_Request] = []
        while replica.queue and len(batch) < self._max_batch:
            request = replica.queue.popleft()
            if request.deadline > self._now:
                batch.append(request)
            else:
                self._release(replica, request, 504)
        if batch:
            replica.busy, replica.began = True, self._now
            seconds = self._draw.choice(self._seconds(len(batch), fresh))
            self._at(self._now + seconds, self._done, replica, batch, seconds)

    def _seconds(self, size: int, fresh: bool) -> Sequence[float]:
        """Measured times of that size; of one never seen, those of the next that was, scaled."""
        if fresh and size in self._times.fresh:
            return self._times.fresh[size]
        if size not in self._batches:
            nearest = min(self._batches, key=lambda known: (abs(known - size), known))
            self._batches[size] = [seconds * size / nearest for seconds in self._batches[nearest]]
        return self._batches[size]

    def _done(self, replica: _Replica, batch: list[_Request], seconds: float) -> None:
        if late := replica.late:
            replica.late = 0.0
            self._at(self._now + late, self._done, replica, batch, seconds + late)
            return
        replica.admission.observe(len(batch), seconds)
        replica.busy = False
        replica.busy_seconds += seconds
        for request in batch:
            self._release(replica, request, 200 if request.deadline >= self._now else 504)
        self._begin(replica)

    def _release(self, replica: _Replica, request: _Request, status: int) -> None:
        if request.permit is not None:
            request.permit.release()
        self._end(request, status)
        while replica.door:
            first = replica.door.popleft()
            if first.at_door:
                first.at_door = False
                replica.waiting -= 1
                if not self._enter(replica, first):
                    self._end(first, 429)
                return

    def _end(self, request: _Request, status: int) -> None:
        self._outcome.statuses[status] += 1
        if status == 200:
            self._outcome.due.append(request.due)
            self._outcome.latencies.append(self._now - request.due)
            self._outcome.finished.append(self._now)

    def _scale(self) -> None:
        """What the autoscaler sees and does, once a period."""
        if self._autoscaler is None:
            return
        self._at(self._now + self._autoscaler.rules.period, self._scale)
        everybody = [*self._replicas, *self._gone]
        busy = sum(replica.seconds_busy(self._now) for replica in everybody)
        queue = sum(len(replica.queue) for replica in self._replicas)
        wait = math.fsum(replica.admission.predicted_wait for replica in self._replicas)
        change = self._autoscaler.decide(Gauges(self._now, busy, queue, wait))
        for _ in range(change):
            self._at(self._now + self._autoscaler.rules.start_seconds, self._join)
        for _ in range(min(-change, len(self._replicas) - 1)):
            self._gone.append(self._replicas.pop())
        if change < 0:
            self._outcome.replicas.append((self._now, len(self._replicas)))

    def _join(self) -> None:
        self._replicas.append(self._new())
        self._outcome.replicas.append((self._now, len(self._replicas)))

"""The scaling rule of docker/kubernetes/components/keda: from gauges to the number of replicas to add."""

import math
from collections import deque
from dataclasses import dataclass

TOLERANCE = 0.1  # Kubernetes ignores a smaller deviation
UP_FACTOR = 2.0  # of the replicas, at most, in a period
DOWN_SHARE, DOWN_SECONDS = 0.2, 60.0  # of the replicas, at most, in so many seconds


@dataclass(frozen=True)
class Scaling:
    """The target of each gauge for a replica (math.inf: the rule ignores it), the bounds, and the delays."""

    busy: float = 0.7  # share of the time that a device is busy
    queue: float = 16.0  # waiting images
    wait: float = 7.5  # predicted seconds of wait of the next request
    min_replicas: int = 2
    max_replicas: int = 10_000
    period: float = 15.0
    window: float = 60.0  # over which `busy` is the mean
    start_seconds: float = 60.0  # from the decision until a replica is ready
    stabilization_seconds: float = 300.0  # without a higher need, before any replica ends


@dataclass(frozen=True)
class Gauges:
    """What Prometheus has at a moment, summed over the replicas; `busy` is seconds since the start."""

    moment: float
    busy: float
    queue: float
    wait: float


class Autoscaler:
    """Applies the rule; it keeps the number of replicas and the gauges of the last minutes."""

    def __init__(self, rules: Scaling, replicas: int) -> None:
        self.rules = rules
        self._replicas = replicas  # requested, ready or not
        self._gauges: deque[Gauges] = deque([Gauges(0.0, 0.0, 0.0, 0.0)])
        self._needs: deque[tuple[float, int]] = deque()
        self._last_down = -math.inf

    def decide(self, gauges: Gauges) -> int:
        """Replicas to start, or to end where negative."""
        self._gauges.append(gauges)
        while gauges.moment - self._gauges[0].moment > self.rules.window:
            self._gauges.popleft()
        need = self._need(gauges)
        self._needs.append((gauges.moment, need))
        while gauges.moment - self._needs[0][0] > self.rules.stabilization_seconds:
            self._needs.popleft()
        replicas = self._bounded(need, max(one for _, one in self._needs), gauges.moment)
        change, self._replicas = replicas - self._replicas, replicas
        return change

    def _need(self, gauges: Gauges) -> int:
        """Replicas by the gauge that needs the most."""
        first = self._gauges[0]
        busy = (gauges.busy - first.busy) / max(gauges.moment - first.moment, 1e-9)
        ratios = (busy / self.rules.busy, gauges.queue / self.rules.queue, gauges.wait / self.rules.wait)
        needs = [
            self._replicas if abs(ratio / self._replicas - 1) <= TOLERANCE else math.ceil(ratio)
            for ratio in ratios
        ]
        return min(self.rules.max_replicas, max(self.rules.min_replicas, *needs))

    def _bounded(self, need: int, recent: int, moment: float) -> int:
        """As fast as the policies allow: up at once; down in steps, to the highest `recent` need."""
        if need > self._replicas:
            return min(need, math.ceil(UP_FACTOR * self._replicas))
        if recent >= self._replicas or moment - self._last_down < DOWN_SECONDS:
            return self._replicas
        self._last_down = moment
        return max(recent, math.floor((1 - DOWN_SHARE) * self._replicas))

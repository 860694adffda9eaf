"""The scaling rule of docker/kubernetes/components/keda, as arithmetic: gauges in, replicas to add out."""

import math
from collections import deque
from dataclasses import dataclass

TOLERANCE = 0.1  # Kubernetes leaves a deviation below it alone
UP_FACTOR = 2.0  # of the replicas, at most, in a period
DOWN_SHARE, DOWN_SECONDS = 0.2, 60.0  # of the replicas, at most, in so many seconds


@dataclass(frozen=True)
class Scaling:
    """What each replica should have of each gauge, math.inf where the rule ignores it; and the delays."""

    busy: float = 0.7  # share of the time that a device is busy
    queue: float = 16.0  # images that wait
    wait: float = 7.5  # seconds that a newcomer waits
    least: int = 2
    most: int = 10_000
    period: float = 15.0
    window: float = 60.0  # over which `busy` is the mean
    start_seconds: float = 60.0  # from the decision until a replica is ready
    calm_seconds: float = 300.0  # without a higher need, before any replica ends


@dataclass(frozen=True)
class Gauges:
    """What Prometheus would have at a moment, summed over the replicas; `busy` counts from the start."""

    moment: float
    busy: float
    queue: float
    wait: float


class Autoscaler:
    """Follows the rule; it remembers what it asked for and what the gauges were."""

    def __init__(self, rules: Scaling, replicas: int) -> None:
        self.rules = rules
        self._replicas = replicas  # asked for, ready or not
        self._seen: deque[Gauges] = deque([Gauges(0.0, 0.0, 0.0, 0.0)])
        self._needs: deque[tuple[float, int]] = deque()
        self._last_down = -math.inf

    def decide(self, gauges: Gauges) -> int:
        """Replicas to start, or to end where negative."""
        self._seen.append(gauges)
        while gauges.moment - self._seen[0].moment > self.rules.window:
            self._seen.popleft()
        need = self._need(gauges)
        self._needs.append((gauges.moment, need))
        while gauges.moment - self._needs[0][0] > self.rules.calm_seconds:
            self._needs.popleft()
        wanted = self._bounded(need, max(one for _, one in self._needs), gauges.moment)
        change = wanted - self._replicas
        self._replicas = wanted
        return change

    def _need(self, gauges: Gauges) -> int:
        """What the most demanding of the gauges asks for."""
        first = self._seen[0]
        busy = (gauges.busy - first.busy) / max(gauges.moment - first.moment, 1e-9)
        ratios = (busy / self.rules.busy, gauges.queue / self.rules.queue, gauges.wait / self.rules.wait)
        needs = [
            self._replicas if abs(ratio / self._replicas - 1) <= TOLERANCE else math.ceil(ratio)
            for ratio in ratios
        ]
        return min(self.rules.most, max(self.rules.least, *needs))

    def _bounded(self, need: int, calm: int, moment: float) -> int:
        """As fast as the policies allow: up at once, down in steps and only after the calm."""
        if need > self._replicas:
            return min(need, math.ceil(UP_FACTOR * self._replicas))
        if calm >= self._replicas or moment - self._last_down < DOWN_SECONDS:
            return self._replicas
        self._last_down = moment
        return max(calm, math.floor((1 - DOWN_SHARE) * self._replicas))

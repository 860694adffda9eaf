"""Loads that failed: requests try such a model again only after a while, so that it costs few loads."""

import time
from dataclasses import dataclass

from app.errors import LoadFailed
from app.telemetry.metrics import Metrics

FIRST_RETRY_SECONDS = 10.0  # doubles with each failure in a row
MOST_RETRY_SECONDS = 600.0


@dataclass(frozen=True)
class FailedLoad:
    """A load that failed: its reason, how many did in a row, and when the next may be tried (monotonic)."""

    reason: str
    attempts: int
    due: float


class FailedLoads:
    """The last failure of each model whose last load failed."""

    def __init__(self, metrics: Metrics) -> None:
        self._by_name: dict[str, FailedLoad] = {}
        self._gauge = metrics.model_load_failed

    def items(self) -> list[tuple[str, FailedLoad]]:
        """Names and failures."""
        return list(self._by_name.items())

    def remember(self, name: str, reason: str) -> None:
        """A load failed."""
        before = self._by_name.get(name)
        attempts = before.attempts + 1 if before else 1
        pause = min(MOST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** (attempts - 1))
        self._by_name[name] = FailedLoad(reason, attempts, time.monotonic() + pause)
        self._gauge.labels(model=name).set(1)

    def forget(self, name: str) -> None:
        """A load succeeded."""
        if self._by_name.pop(name, None) is not None:
            self._gauge.remove(name)

    def check(self, name: str) -> None:
        """Raise LoadFailed where a request may not try that model again yet."""
        failed, now = self._by_name.get(name), time.monotonic()
        if failed is not None and failed.due > now:
            left = max(1, round(failed.due - now))
            raise LoadFailed(f"{failed.reason}; the first request after {left} s tries again")

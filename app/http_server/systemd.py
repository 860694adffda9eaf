"""sd_notify: tells systemd when the service is ready, stops, and still runs (Type=notify, WatchdogSec)."""

import logging
import socket

SIGNS = 3  # of life in the time that the watchdog waits for one
logger = logging.getLogger(__name__)


class Notifier:
    """Sends states to systemd's socket; without one it does nothing."""

    def __init__(self, path: str, watchdog_seconds: float = 0.0) -> None:
        """`path`: of the socket, "" for none; `watchdog_seconds`: 0 is no watchdog."""
        self._path = f"\0{path[1:]}" if path.startswith("@") else path  # an abstract socket
        self._interval = watchdog_seconds / SIGNS
        self._next_sign = 0.0
        self._told: set[str] = set()
        self._unsent: list[str] = []  # in their order
        self._warned: set[str] = set()

    def tell_once(self, state: str) -> None:
        """Send READY=1 or STOPPING=1, the first time alone; `sign_of_life` tries again what was not sent."""
        if state not in self._told:
            self._told.add(state)
            self._unsent.append(state)
            self._send_unsent()

    def sign_of_life(self, now: float) -> None:
        """Tell the watchdog from time to time that the event loop runs; `now` is monotonic."""
        self._send_unsent()
        if self._interval and now >= self._next_sign:
            self._next_sign = now + self._interval
            self._send("WATCHDOG=1")

    def _send_unsent(self) -> None:
        while self._unsent and self._send(self._unsent[0]):
            del self._unsent[0]

    def _send(self, state: str) -> bool:
        """Whether systemd has it; its queue may be full, and the event loop must not wait."""
        if not self._path:
            return True
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(state.encode(), self._path)
        except OSError as error:
            if state not in self._warned:
                self._warned.add(state)
                logger.warning("NOTIFY_SOCKET %s: %s was not sent: %s", self._path, state, error)
            return False
        return True

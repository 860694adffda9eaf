"""Bytes of request bodies in memory: a bound for all bodies of one group of clients, over every protocol."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from app.errors import Overloaded
from app.settings.settings import Settings

RETRY_SECONDS = 1.0  # bodies arrive in less, as a rule


class ByteAccount:
    """Counts the bytes that bodies hold; called on the event loop's thread."""

    def __init__(self, total: int, reason: str) -> None:
        """`total`: most bytes at a time; `reason`: the text of the error when they are exceeded."""
        self._total = total
        self._reason = reason
        self.held = 0

    def reserve(self, nbytes: int, own: int) -> None:
        """Count more bytes of a body that holds `own` so far; raises Overloaded and then counts nothing.

        A body that is alone is never rejected: it has its own limit.
        """
        if self.held + nbytes > self._total and self.held > own:
            raise Overloaded(self._reason, RETRY_SECONDS)
        self.held += nbytes

    def release(self, nbytes: int) -> None:
        """Count fewer bytes."""
        self.held -= nbytes

    @contextmanager
    def hold(self, nbytes: int, own: int = 0) -> Iterator[None]:
        """Count bytes for a while, as `reserve`."""
        self.reserve(nbytes, own)
        try:
            yield
        finally:
            self.release(nbytes)


@dataclass(frozen=True, eq=False)
class BodyAccounts:
    """The account of users, and the small one of strangers: requests that have not shown a key yet."""

    users: ByteAccount
    strangers: ByteAccount

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """One account where the server has no keys: then every client is a user."""
        users = ByteAccount(
            settings.max_queue_bytes,
            "the request bodies together are too large now; send the request again later",
        )
        if not settings.api_keys and settings.api_keys_file is None:
            return cls(users, users)
        strangers = ByteAccount(
            settings.max_body_bytes,
            "the bodies of requests without a key are too large together now; send the key in the header "
            "X-API-Key, or the request again later",
        )
        return cls(users, strangers)

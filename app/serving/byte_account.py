"""The account of bytes that requests hold before they are admitted, over HTTP and gRPC together."""

from app.errors import Overloaded

_RETRY_SECONDS = 1.0  # bodies come and go within a second, unless their clients are slow


class ByteAccount:
    """Counts the bytes of bodies and messages in memory; `total` bounds them, but never a request alone."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes that all requests hold now."""
        return self._held

    def reserve(self, nbytes: int, own: int = 0) -> None:
        """Count more bytes of a request that holds `own`; raises Overloaded and then counts none of them."""
        if self._held + nbytes > self._total and self._held > own:
            raise Overloaded(
                "the request bodies together are too large now; send the request again later", _RETRY_SECONDS
            )
        self._held += nbytes

    def release(self, nbytes: int) -> None:
        """Count fewer bytes."""
        self._held -= nbytes

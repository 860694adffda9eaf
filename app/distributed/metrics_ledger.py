"""The metrics of all replicas in one scrape: each replica waits at the ledger until its page is requested."""

import asyncio

HEARTBEAT_SECONDS = 10.0  # a replica that waits longer calls again: one that died is forgotten by then
PAGE_TIMEOUT_SECONDS = 2.0  # for the slowest page of a scrape; later ones are left out


class MetricsLedger:
    """One for all replicas; it keeps nothing from one scrape to the next."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Event] = {}
        self._requested: dict[str, asyncio.Future[bytes]] = {}

    async def report(self, replica: str, page: bytes | None) -> bool:
        """Hand in a page, if one was requested; then wait, and return whether the next is requested now."""
        requested = self._requested.pop(replica, None)
        if page is not None and requested is not None and not requested.done():
            requested.set_result(page)
        request = self._waiting[replica] = asyncio.Event()
        try:
            await asyncio.wait_for(request.wait(), HEARTBEAT_SECONDS)
        except TimeoutError:
            return False
        finally:
            if self._waiting.get(replica) is request:
                del self._waiting[replica]
        return True

    async def scrape(self) -> dict[str, bytes]:
        """The pages of the replicas that answer in time, by the replica's name."""
        for replica, request in self._waiting.items():
            self._requested.setdefault(replica, asyncio.get_running_loop().create_future())
            request.set()
        pages = dict(self._requested)
        if pages:
            await asyncio.wait(pages.values(), timeout=PAGE_TIMEOUT_SECONDS)
        for replica, page in pages.items():
            if not page.done() and self._requested.get(replica) is page:
                del self._requested[replica]
        return {replica: page.result() for replica, page in pages.items() if page.done()}

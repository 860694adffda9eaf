"""The metrics of all replicas in one scrape: each waits at the ledger until somebody asks for its page."""

import asyncio

HEARTBEAT_SECONDS = 10.0  # a replica that waits in vain asks again: one that died is forgotten by then
PATIENCE_SECONDS = 2.0  # for the slowest page of a scrape; who is later is left out of it


class MetricsLedger:
    """One for all replicas; it keeps nothing from one scrape to the next."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Event] = {}
        self._asked: dict[str, asyncio.Future[bytes]] = {}

    async def turn(self, replica: str, page: bytes | None) -> bool:
        """Hand in a page, if one was asked for; then wait, and say whether the next is asked for now."""
        asked = self._asked.pop(replica, None)
        if page is not None and asked is not None and not asked.done():
            asked.set_result(page)
        call = self._waiting[replica] = asyncio.Event()
        try:
            await asyncio.wait_for(call.wait(), HEARTBEAT_SECONDS)
        except TimeoutError:
            return False
        finally:
            if self._waiting.get(replica) is call:
                del self._waiting[replica]
        return True

    async def scrape(self) -> dict[str, bytes]:
        """The pages of the replicas that answer in time, by the replica's name."""
        for replica, call in self._waiting.items():
            self._asked.setdefault(replica, asyncio.get_running_loop().create_future())
            call.set()
        pages = dict(self._asked)
        if pages:
            await asyncio.wait(pages.values(), timeout=PATIENCE_SECONDS)
        for replica, page in pages.items():
            if not page.done() and self._asked.get(replica) is page:
                del self._asked[replica]
        return {replica: page.result() for replica, page in pages.items() if page.done()}

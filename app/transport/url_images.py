"""Images by URL: for protocols whose clients send one, if the settings allow it.

Guards against server-side request forgery: http and https only; the host name is resolved once, all of its
addresses must be public, and the connection goes to the address that was checked (against DNS rebinding);
redirects are not followed, proxies of the environment not used; bytes are counted as they arrive.

Guards against slow hosts: a fetch has a time of its own and a minimum speed; one host, and one client, has
only a part of the concurrent fetches.
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

import httpx

from app.errors import BodyTooLarge, InvalidImage, InvalidParameter
from app.schemas.limits import MAX_URL

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Host and port to the addresses of the host; raises OSError."""

AT_ONCE = 8  # concurrent fetches; more wait, so that their memory is bounded before admission
SHARE = AT_ONCE // 2  # of them for one host, and for one client
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # the only IPv6 addresses that are assigned
# What Python's versions disagree about, or do not know.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # of protocols, not of hosts
        "192.88.99.0/24",  # relays from IPv6, withdrawn (RFC 7526)
        "2001::/23",  # of protocols
        "3fff::/20",  # of documentation (RFC 9637)
    )
)
_UNKNOWN = "the host of this URL is unknown or not public; send the image in base64"


async def resolve_host(host: str, port: int) -> list[str]:
    """The addresses of a host, from the system's resolver."""
    entries = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in entries]


def is_public(address: str) -> bool:
    """Whether an IP address is public; IPv6 addresses that wrap an IPv4 address are not."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:  # with the scope of a link-local one, such as fe80::1%eth0
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        plain = ip in _GLOBAL_UNICAST and not ip.sixtofour and not ip.teredo
    else:
        plain = not ip.is_reserved
    plain = plain and not any(ip in network for network in _NOT_PUBLIC)
    return plain and ip.is_global and not ip.is_multicast


@dataclass(frozen=True)
class Pace:
    """What a fetch may take: `seconds`, and one more for each `bytes_per_second` bytes that arrived."""

    seconds: float = 5.0
    bytes_per_second: int = 1 << 20


class Fetcher:
    """Fetches images of at most `max_bytes`; one for the app."""

    def __init__(
        self,
        max_bytes: int,
        resolve: Resolve = resolve_host,
        transport: httpx.AsyncBaseTransport | None = None,
        pace: Pace = Pace(),
    ) -> None:
        """`transport` replaces the network."""
        self._max_bytes = max_bytes
        self._resolve = resolve
        self._transport = transport
        self._pace = pace
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def fetch(self, address: str, client: str) -> bytes:
        """The content of an http(s) URL; raises InvalidParameter, InvalidImage or BodyTooLarge.

        `client`: who asks for it, such as its address.
        """
        url = _parse(address)
        async with self._slot(f"client {client}", f"host {_host(url)}"):
            try:
                async with asyncio.timeout(self._pace.seconds) as limit:
                    return await self._get(url, await self._public_address(url), limit)
            except TimeoutError as error:
                raise InvalidImage(
                    "the image could not be fetched: its host is too slow; send the image in base64"
                ) from error
            except httpx.HTTPError as error:
                raise InvalidImage("the image could not be fetched from its URL") from error

    @asynccontextmanager
    async def _slot(self, *holders: str) -> AsyncIterator[None]:
        """One of the slots, and for each holder one of its share; who waits for a share holds no slot."""
        shares = [self._shares.setdefault(holder, asyncio.Semaphore(SHARE)) for holder in holders]
        async with AsyncExitStack() as stack:
            for semaphore in (*shares, self._slots):
                await stack.enter_async_context(semaphore)
            yield

    async def _public_address(self, url: httpx.URL) -> str:
        try:
            addresses = await self._resolve(_host(url), _port(url))
        except (OSError, UnicodeError) as error:
            raise InvalidParameter(_UNKNOWN) from error
        if not addresses or not all(is_public(ip) for ip in addresses):
            raise InvalidParameter(_UNKNOWN)
        return addresses[0]

    async def _get(self, url: httpx.URL, ip: str, limit: asyncio.Timeout) -> bytes:
        """Connect to `ip`, with the host's name in the header, in TLS and for the certificate."""
        headers = {"Host": url.netloc.decode("ascii"), "Accept": "image/*", "Accept-Encoding": "identity"}
        extensions = {"sni_hostname": _host(url)}
        client = httpx.AsyncClient(transport=self._transport, trust_env=False, timeout=None)  # noqa: S113  # set outside
        async with (
            client,
            client.stream("GET", url.copy_with(host=ip), headers=headers, extensions=extensions) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise InvalidImage(
                    f"the image could not be fetched: its host responded with {response.status_code}"
                )
            return await self._read(response, limit)

    async def _read(self, response: httpx.Response, limit: asyncio.Timeout) -> bytes:
        body, start = bytearray(), limit.when() or 0.0
        async for chunk in response.aiter_raw():  # as sent: nothing is decompressed
            body += chunk
            limit.reschedule(start + len(body) / self._pace.bytes_per_second)
            if len(body) > self._max_bytes:
                raise BodyTooLarge(f"the image at this URL has more than {self._max_bytes} bytes")
        return bytes(body)


def _host(url: httpx.URL) -> str:
    """The ASCII name: the same for DNS, the header and the certificate."""
    return url.raw_host.decode("ascii")


def _port(url: httpx.URL) -> int:
    default = 443 if url.scheme == "https" else 80
    return default if url.port is None else url.port


def _parse(address: str) -> httpx.URL:
    if len(address) > MAX_URL:
        raise InvalidParameter(f"image: the URL has more than {MAX_URL} characters; send the image in base64")
    try:
        url = httpx.URL(address)
        host = url.host  # raises for a name that is no valid IDNA
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidParameter("image: this is not a URL; send one with http or https") from error
    if url.scheme not in ("http", "https") or not host or url.userinfo or not 0 < _port(url) < 1 << 16:
        raise InvalidParameter("image: send a URL with http or https, a host, no password and a valid port")
    return url

"""Images by URL, if the settings allow it.

Guards against server-side request forgery: http and https only; the host name is resolved once, all of its
addresses must be public, and the connection goes to the address that was checked (against DNS rebinding);
redirects are not followed, proxies of the environment not used; bytes are counted as they arrive.

Guards against slow hosts: a fetch has a time of its own and a minimum speed; one host, and one client, has
only a part of the concurrent fetches.
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import cast
from weakref import WeakValueDictionary

import httpx
from starlette.requests import Request

from app.errors import BodyTooLarge, DeadlineExceeded, InvalidImage, InvalidParameter
from app.schemas.limits import MAX_URL
from app.transport.context import service_of
from app.transport.disconnect import cancel_on_disconnect
from app.transport.middleware.body_limit import body_count

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


@dataclass(frozen=True)
class Trusted:
    """An address that an operator has named: its host need not be public, and gets these headers."""

    url: str
    headers: Mapping[str, str]

    def has(self, url: httpx.URL) -> bool:
        """Whether the address is at the same scheme, host and port."""
        ours = _parse(self.url)
        return (ours.scheme, _host(ours), _port(ours)) == (url.scheme, _host(url), _port(url))


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

    async def fetch(self, address: str, client: str, trusted: Trusted | None = None) -> bytes:
        """The content of an http(s) URL; raises InvalidParameter, InvalidImage or BodyTooLarge.

        `client`: who asks for it, such as its address.
        """
        url = _parse(address)
        known = trusted if trusted is not None and trusted.has(url) else None
        async with self._slot(f"client {client}", f"host {_host(url)}"):
            try:
                async with asyncio.timeout(self._pace.seconds) as limit:
                    ip = await self._address(url, public=known is None)
                    return await self._get(url, ip, limit, known.headers if known else {})
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

    async def _address(self, url: httpx.URL, *, public: bool) -> str:
        try:
            addresses = await self._resolve(_host(url), _port(url))
        except (OSError, UnicodeError) as error:
            raise InvalidParameter(_UNKNOWN) from error
        if not addresses or (public and not all(is_public(ip) for ip in addresses)):
            raise InvalidParameter(_UNKNOWN)
        return addresses[0]

    async def _get(self, url: httpx.URL, ip: str, limit: asyncio.Timeout, more: Mapping[str, str]) -> bytes:
        """Connect to `ip`, with the host's name in the header, in TLS and for the certificate."""
        headers = {"Host": url.netloc.decode("ascii"), "Accept": "image/*", "Accept-Encoding": "identity"}
        headers |= more
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


async def fetch_image(
    request: Request, address: str, deadline: float, trusted: Trusted | None = None
) -> bytes:
    """The image at an address, for a request, until the deadline (monotonic); raises ServiceError.

    Its bytes count as those of the request's body. `trusted`: addresses there need no RCNN_FETCH_URLS.
    """
    known = trusted is not None and trusted.has(_parse(address))
    if not known and not service_of(request).settings.fetch_urls:
        raise InvalidParameter(
            "image: this server does not fetch URLs; send the image in base64, or set RCNN_FETCH_URLS"
        )
    fetcher = cast(Fetcher, request.app.state.fetcher)
    client = request.client.host if request.client else ""
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            data = await cancel_on_disconnect(request, fetcher.fetch(address, client, trusted))
    except TimeoutError as error:
        raise DeadlineExceeded(
            "the image did not arrive from its URL within the request's time; send it in base64"
        ) from error
    body_count(request).add(len(data))
    return data


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

"""Images by URL: for protocols whose clients send one, if the settings allow it.

Guards against server-side request forgery: http and https only; the host name is resolved once, all of its
addresses must be public, and the connection goes to the address that was checked (against DNS rebinding);
redirects are not followed, proxies of the environment not used; bytes are counted as they arrive. The caller
bounds the time.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable

import httpx

from app.errors import BodyTooLarge, InvalidImage, InvalidParameter

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Host and port to the addresses of the host; raises OSError."""

AT_ONCE = 8  # concurrent fetches; more wait, so that their memory is bounded before admission
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # the only IPv6 addresses that are assigned
_PROTOCOLS = ipaddress.ip_network("192.0.0.0/24")  # IPv4 addresses of protocols, not of hosts
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
        plain = ip not in _PROTOCOLS and not ip.is_reserved
    return plain and ip.is_global and not ip.is_multicast


class Fetcher:
    """Fetches images of at most `max_bytes`; one for the app."""

    def __init__(
        self,
        max_bytes: int,
        resolve: Resolve = resolve_host,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`transport` replaces the network."""
        self._max_bytes = max_bytes
        self._resolve = resolve
        self._transport = transport
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def fetch(self, address: str) -> bytes:
        """The content of an http(s) URL; raises InvalidParameter, InvalidImage or BodyTooLarge."""
        url = _parse(address)
        async with self._slots:
            ip = await self._public_address(url)
            try:
                return await self._get(url, ip)
            except httpx.HTTPError as error:
                raise InvalidImage("the image could not be fetched from its URL") from error

    async def _public_address(self, url: httpx.URL) -> str:
        try:
            addresses = await self._resolve(_host(url), _port(url))
        except (OSError, UnicodeError) as error:
            raise InvalidParameter(_UNKNOWN) from error
        if not addresses or not all(is_public(ip) for ip in addresses):
            raise InvalidParameter(_UNKNOWN)
        return addresses[0]

    async def _get(self, url: httpx.URL, ip: str) -> bytes:
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
            return await self._read(response)

    async def _read(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_raw():  # as sent: nothing is decompressed
            body += chunk
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
    try:
        url = httpx.URL(address)
        host = url.host  # raises for a name that is no valid IDNA
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidParameter("image: this is not a URL; send one with http or https") from error
    if url.scheme not in ("http", "https") or not host or url.userinfo or not 0 < _port(url) < 1 << 16:
        raise InvalidParameter("image: send a URL with http or https, a host, no password and a valid port")
    return url

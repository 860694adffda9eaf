"""Images by their address: for protocols whose clients send one, where the settings allow it.

Who can make a server fetch an address can reach what only the server can reach. So: http and https alone; the
host's name is looked up once, every address of it must be public, and the connection goes to the very address
that was checked (a name that leads elsewhere the next time gains nothing); no redirect is followed, no proxy
of the environment asked; bytes are counted as they come. The time is the caller's to bound.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable

import httpx

from app.errors import BodyTooLarge, InvalidImage, InvalidParameter

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Host and port to the addresses of the host; raises OSError."""

AT_ONCE = 8  # fetches; more wait, so that what they hold is bounded before any of it is admitted
_ORDINARY = ipaddress.ip_network("2000::/3")  # the only addresses of IPv6 that are given out
_PROTOCOLS = ipaddress.ip_network("192.0.0.0/24")  # of IPv4: for protocols, not for hosts
_UNKNOWN = "the host of this address is unknown, or is not public; send the image in base64"


async def resolve_host(host: str, port: int) -> list[str]:
    """The addresses of a host, as the system knows them."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's own; those that wrap an IPv4 address are not."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:  # with the scope of a link-local one, such as fe80::1%eth0
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        plain = ip in _ORDINARY and not ip.sixtofour and not ip.teredo
    else:
        plain = ip not in _PROTOCOLS and not ip.is_reserved
    return plain and ip.is_global and not ip.is_multicast


class Fetcher:
    """Fetches images of at most so many bytes; one for the app."""

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
        self._places = asyncio.Semaphore(AT_ONCE)

    async def fetch(self, address: str) -> bytes:
        """What lies at an http(s) address; raises InvalidParameter, InvalidImage or BodyTooLarge."""
        url = _parse(address)
        async with self._places:
            ip = await self._public_address(url)
            try:
                return await self._get(url, ip)
            except httpx.HTTPError as error:
                raise InvalidImage("the image could not be fetched from its address") from error

    async def _public_address(self, url: httpx.URL) -> str:
        try:
            found = await self._resolve(_host(url), _port(url))
        except (OSError, UnicodeError) as error:
            raise InvalidParameter(_UNKNOWN) from error
        if not found or not all(is_public(ip) for ip in found):
            raise InvalidParameter(_UNKNOWN)
        return found[0]

    async def _get(self, url: httpx.URL, ip: str) -> bytes:
        """Connect to `ip`, but speak to the host by its name: in the header, in TLS and its certificate."""
        headers = {"Host": url.netloc.decode("ascii"), "Accept": "image/*", "Accept-Encoding": "identity"}
        extensions = {"sni_hostname": _host(url)}
        client = httpx.AsyncClient(transport=self._transport, trust_env=False, timeout=None)  # noqa: S113  # the caller's
        async with (
            client,
            client.stream("GET", url.copy_with(host=ip), headers=headers, extensions=extensions) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise InvalidImage(
                    f"the image could not be fetched: its host answered {response.status_code}"
                )
            return await self._read(response)

    async def _read(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_raw():  # as sent: nothing is unpacked that could grow
            body += chunk
            if len(body) > self._max_bytes:
                raise BodyTooLarge(f"the image at this address has more than {self._max_bytes} bytes")
        return bytes(body)


def _host(url: httpx.URL) -> str:
    """As in the header: the same ASCII name is looked up, asked for and certified."""
    return url.raw_host.decode("ascii")


def _port(url: httpx.URL) -> int:
    usual = 443 if url.scheme == "https" else 80
    return usual if url.port is None else url.port


def _parse(address: str) -> httpx.URL:
    try:
        url = httpx.URL(address)
        host = url.host  # raises for a name that is no valid IDNA
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidParameter("image: this is no address; send one with http or https") from error
    if url.scheme not in ("http", "https") or not host or url.userinfo or not 0 < _port(url) < 1 << 16:
        raise InvalidParameter(
            "image: send an address with http or https, a host, no password and a port of use"
        )
    return url

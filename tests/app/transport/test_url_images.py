"""Fetching an image by its address: what is public, what is pinned, what is bounded."""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from app.errors import BodyTooLarge, InvalidImage, InvalidParameter
from app.transport.url_images import AT_ONCE, SHARE, Fetcher, Pace, is_public, resolve_host
from tests.support.protocols import in_pieces

PUBLIC = "93.184.216.34"
PACE = Pace(seconds=20.0)

PUBLIC_ADDRESSES = (PUBLIC, "8.8.8.8", "2606:4700:4700::1111")
OTHER_ADDRESSES = (
    *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),  # noqa: S104  # an address to refuse
    *("192.0.0.8", "192.0.0.9", "192.88.99.1", "198.18.0.1", "192.0.2.1", "224.0.0.1", "240.0.0.1"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
    *("255.255.255.255", "3fff::1", "3fff:fff::1", "2001:1::1", "2001:20::1"),
    *("2001:0:4136:e378:8000:63bf:3fff:fdd2", "localhost", ""),
)


def test_public_addresses_are_distinguished_from_all_others() -> None:
    assert [address for address in PUBLIC_ADDRESSES if not is_public(address)] == []
    assert [address for address in OTHER_ADDRESSES if is_public(address)] == []


Answer = Callable[[httpx.Request], httpx.Response]


class Net:
    """Hosts and what they answer, in place of the network; it records the names resolved and the requests."""

    def __init__(
        self, *turns: list[str], answer: Answer = lambda request: httpx.Response(200, content=in_pieces(b"x"))
    ):
        self._turns = list(turns) or [[PUBLIC]]
        self._answer = answer
        self.names: list[tuple[str, int]] = []
        self.requests: list[httpx.Request] = []

    def fetcher(self, max_bytes: int = 1000, pace: Pace = PACE) -> Fetcher:
        return Fetcher(max_bytes, self._resolve, httpx.MockTransport(self._handle), pace)

    async def _resolve(self, host: str, port: int) -> list[str]:
        self.names.append((host, port))
        return self._turns.pop(0) if len(self._turns) > 1 else self._turns[0]

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answer(request)


@pytest.mark.parametrize(
    ("address", "name", "host_header"),
    [
        ("http://example.com/a.png", ("example.com", 80), "example.com"),
        ("https://EXAMPLE.com/a.png", ("example.com", 443), "example.com"),
        ("http://example.com:81/a.png", ("example.com", 81), "example.com:81"),
        ("https://example.com:8443/a.png?b=c", ("example.com", 8443), "example.com:8443"),
        ("https://bücher.example/a.png", ("xn--bcher-kva.example", 443), "xn--bcher-kva.example"),
    ],
)
async def test_the_connection_goes_to_the_address_that_was_checked(
    address: str, name: tuple[str, int], host_header: str
) -> None:
    net = Net()
    assert await net.fetcher().fetch(address, "client") == b"x"
    [request] = net.requests
    assert net.names == [name]
    assert (request.url.host, request.url.path) == (PUBLIC, "/a.png")
    assert request.headers["host"] == host_header
    assert request.extensions["sni_hostname"] == host_header.partition(":")[0]


async def test_a_name_that_resolves_to_another_address_later_is_checked_again() -> None:
    net = Net([PUBLIC], ["127.0.0.1"])
    fetcher = net.fetcher()
    await fetcher.fetch("http://rebind.example/", "client")
    assert [request.url.host for request in net.requests] == [PUBLIC]
    with pytest.raises(InvalidParameter):
        await fetcher.fetch("http://rebind.example/", "client")
    assert len(net.requests) == 1


async def test_every_address_of_the_host_must_be_public() -> None:
    for addresses in ([], ["10.0.0.1"], [PUBLIC, "10.0.0.1"], ["::1", PUBLIC]):
        net = Net(addresses)
        with pytest.raises(InvalidParameter, match="not public"):
            await net.fetcher().fetch("http://example.com/", "client")
        assert net.requests == []


async def test_an_unknown_host_is_refused_as_one_that_is_not_public() -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise OSError("no such name in internal.example")

    with pytest.raises(InvalidParameter) as caught:
        await Fetcher(1000, unknown).fetch("http://example.com/", "client")
    assert "internal" not in caught.value.detail
    assert "not public" in caught.value.detail


NO_ADDRESS = (
    *("", "example.com/a.png", "//example.com/", "http://", "http:///a", "http://a:b@example.com/"),
    *("file:///etc/passwd", "ftp://example.com/", "gopher://example.com/", "data:image/png;base64,AA=="),
    *("http://example.com:0/", "http://example.com:99999/", "http://[::1/", "http://xn--a/", "http://xn--/"),
    *("http://\x00/", "http://a@127.0.0.1/"),
)


async def test_what_is_no_web_address_is_refused_before_its_name_is_resolved() -> None:
    net = Net()
    for address in NO_ADDRESS:
        with pytest.raises(InvalidParameter):
            await net.fetcher().fetch(address, "client")
    assert (net.names, net.requests) == ([], [])


async def test_redirects_are_not_followed_and_errors_are_no_image() -> None:
    for status in (301, 302, 307, 308, 204, 404, 500):
        answer = httpx.Response(status, headers={"Location": "http://127.0.0.1/"})
        net = Net(answer=lambda request, answer=answer: answer)
        with pytest.raises(InvalidImage, match=str(status)):
            await net.fetcher().fetch("http://example.com/", "client")
        assert len(net.requests) == 1


async def test_bytes_are_counted_as_they_come() -> None:
    sent = 0

    async def endless() -> object:
        nonlocal sent
        while True:
            sent += 100
            yield b"x" * 100

    net = Net(answer=lambda request: httpx.Response(200, content=endless()))
    with pytest.raises(BodyTooLarge, match="1000 bytes"):
        await net.fetcher(max_bytes=1000).fetch("http://example.com/", "client")
    assert sent == 1100
    exact = Net(answer=lambda request: httpx.Response(200, content=in_pieces(b"x" * 1000)))
    assert len(await exact.fetcher(max_bytes=1000).fetch("http://example.com/", "client")) == 1000


async def test_a_compressed_answer_is_not_decompressed() -> None:
    packed = httpx.Response(200, content=in_pieces(b"\x1f\x8b"), headers={"Content-Encoding": "gzip"})
    net = Net(answer=lambda request: packed)
    assert await net.fetcher().fetch("http://example.com/", "client") == b"\x1f\x8b"
    assert net.requests[0].headers["accept-encoding"] == "identity"


async def test_a_failed_connection_does_not_reveal_the_network() -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("SECRET host refused")

    with pytest.raises(InvalidImage) as caught:
        await Net(answer=fail).fetcher().fetch("http://example.com/", "client")
    assert "SECRET" not in caught.value.detail


async def test_few_fetches_run_at_once() -> None:
    running, most = 0, 0
    gate = asyncio.Event()

    async def resolve(host: str, port: int) -> list[str]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        return [PUBLIC]

    fetcher = Fetcher(
        10, resolve, httpx.MockTransport(lambda request: httpx.Response(200, content=in_pieces(b"x")))
    )
    hosts = [f"http://{number}.example.com/" for number in range(3 * AT_ONCE)]
    tasks = [asyncio.create_task(fetcher.fetch(host, host)) for host in hosts]
    while running < AT_ONCE:  # noqa: ASYNC110  # what a test waits for has no event
        await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*tasks)
    assert most == AT_ONCE


async def hang(*_: object) -> list[str]:
    await asyncio.Event().wait()
    raise AssertionError


async def trickle() -> AsyncIterator[bytes]:
    yield b"x"
    await hang()


async def test_a_slow_host_ends_its_fetch_and_no_other() -> None:
    """However little the host does: nothing at all, or one byte."""
    pace = Pace(seconds=0.02)
    slow = Net(answer=lambda request: httpx.Response(200, content=trickle()))
    for fetcher in (slow.fetcher(pace=pace), Fetcher(1000, hang, pace=pace)):
        with pytest.raises(InvalidImage, match="too slow"):
            await fetcher.fetch("http://example.com/", "client")


async def test_bytes_that_arrive_extend_the_time_of_a_fetch() -> None:
    async def late() -> AsyncIterator[bytes]:
        yield b"x" * 60
        await asyncio.sleep(0.1)  # a host that is slower than its first seconds allow, and sends enough
        yield b"x"

    net = Net(answer=lambda request: httpx.Response(200, content=late()))
    fetcher = net.fetcher(pace=Pace(seconds=0.05, bytes_per_second=1))
    assert len(await fetcher.fetch("http://example.com/", "client")) == 61


SLOW = [(f"http://{number}.example.com/", f"client {number}") for number in range(AT_ONCE)]


@pytest.mark.parametrize(
    "slow",
    [[(url, "one") for url, _ in SLOW], [("http://one.example.com/", client) for _, client in SLOW]],
    ids=["of one client", "of one host"],
)
async def test_slow_fetches_leave_slots_for_others(slow: list[tuple[str, str]]) -> None:
    held: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        held.append(host)
        return [PUBLIC] if host == "another.example" else await hang()

    answer = httpx.MockTransport(lambda request: httpx.Response(200, content=in_pieces(b"x")))
    fetcher = Fetcher(10, resolve, answer, PACE)
    tasks = [asyncio.create_task(fetcher.fetch(*one)) for one in slow]
    while len(held) < SHARE:  # noqa: ASYNC110  # what a test waits for has no event
        await asyncio.sleep(0)
    assert await fetcher.fetch("http://another.example/", "another") == b"x"
    assert len(held) == SHARE + 1 <= AT_ONCE
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_localhost_resolves_to_this_machine() -> None:
    assert set(await resolve_host("localhost", 80)) & {"127.0.0.1", "::1"}

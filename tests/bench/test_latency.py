"""The benchmark of the added latency: its client on real sockets, and its turns."""

import asyncio

import pytest

from bench import latency
from bench.harness.load import Target
from tests.support.servers.answering import BUSY, answering


async def test_the_client_keeps_its_connection_reads_whole_answers_and_accepts_nothing_but_a_200() -> None:
    async def answer(number: int) -> bytes:
        if number == 3:
            return BUSY % b""
        timing = b"Server-Timing: decode;dur=1.5, total;dur=%d" % (10 * number)
        return b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 100000\r\n\r\n%b" % (timing, bytes(100_000))

    async with answering(answer) as port:
        client = await asyncio.to_thread(latency.BlockingClient, port)
        request = Target(port).request(b"image")
        heads = [await asyncio.to_thread(client.exchange, request) for _ in range(2)]
        with pytest.raises(RuntimeError, match=r"answered HTTP/1\.1 429"):
            await asyncio.to_thread(client.exchange, request)
        client.close()
    stages = [latency.stages_ms(head) for head in heads]
    assert stages == [{"decode": 1.5, "total": 10.0}, {"decode": 1.5, "total": 20.0}]


def test_turns_alternate_and_the_first_requests_of_each_do_not_count() -> None:
    order: list[str] = []

    def turn(name: str, seconds: float) -> latency.Turn:
        def send(count: int) -> list[latency.RequestTime]:
            order.append(name)
            head = b"HTTP/1.1 200 OK\r\nserver-timing: total;dur=3"
            warm_up = [latency.RequestTime(99.0)] * latency.WARM_UP
            return warm_up + [latency.RequestTime(seconds, head)] * (count - latency.WARM_UP)

        return send

    rows = latency.compare({"direct": turn("direct", 0.004), "raw body": turn("raw body", 0.005)}, 3, 2)
    assert order == ["direct", "raw body"] * 3
    values = [(row["way"], row["requests"], row["p50_ms"], row["added_ms"]) for row in rows]
    assert values == [("direct", 6, 4.0, 0.0), ("raw body", 6, 5.0, 1.0)]
    assert rows[1]["stages_ms"] == {"total": 3.0}

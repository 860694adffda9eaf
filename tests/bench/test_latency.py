"""The benchmark of the added latency: its client on real sockets, its turns, and one real run."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import latency
from bench.harness.load import Target
from tests.support.answering import BUSY, answering

ROOT = Path(__file__).parents[2]


async def test_the_light_client_keeps_its_connection_and_reads_whole_answers() -> None:
    """Two answers in pieces of their own; the head is given back, the body is read and forgotten."""

    async def timed(number: int) -> bytes:
        timing = b"Server-Timing: decode;dur=1.5, total;dur=%d" % (10 * number)
        return b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 100000\r\n\r\n%b" % (timing, bytes(100_000))

    async with answering(timed) as port:
        client = await asyncio.to_thread(latency.Client, port)
        request = Target(port).request(b"image")
        heads = [await asyncio.to_thread(client.exchange, request) for _ in range(2)]
        client.close()
    assert [dict(latency.timing(head)) for head in heads] == [
        {"decode": 1.5, "total": 10.0},
        {"decode": 1.5, "total": 20.0},
    ]


async def test_the_light_client_takes_nothing_but_a_200() -> None:
    async def refusing(number: int) -> bytes:
        return BUSY % b""

    async with answering(refusing) as port:
        client = await asyncio.to_thread(latency.Client, port)
        with pytest.raises(RuntimeError, match=r"answered HTTP/1\.1 429"):
            await asyncio.to_thread(client.exchange, Target(port).request(b"image"))
        client.close()


def test_turns_alternate_and_the_first_requests_of_each_do_not_count() -> None:
    order: list[str] = []

    def way(name: str, seconds: float) -> latency.Way:
        def ask(count: int) -> list[latency.Asked]:
            order.append(name)
            head = b"HTTP/1.1 200 OK\r\nserver-timing: total;dur=3"
            return [latency.Asked(99.0)] * latency.WARM_UP + [latency.Asked(seconds, head)] * (
                count - latency.WARM_UP
            )

        return ask

    found = latency.turns({"direct": way("direct", 0.004), "raw body": way("raw body", 0.005)}, 3, 2)
    assert order == ["direct", "raw body"] * 3
    rows = latency.summary(found)
    assert [(row["way"], row["requests"], row["p50_ms"]) for row in rows] == [
        ("direct", 6, 4.0),
        ("raw body", 6, 5.0),
    ]
    assert [row["added_ms"] for row in rows] == [0.0, 1.0]
    assert rows[1]["stages_ms"] == {"total": 3.0}


def test_quick_run_of_the_latency(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m", "bench.latency", "--rounds", "1", "--requests", "2", "--threads", "1"]
    done = subprocess.run(
        [*command, "--json", str(out)], cwd=ROOT, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert [(row["way"], row["requests"]) for row in rows] == [
        ("direct", 2),
        ("raw body", 2),
        ("multipart", 2),
    ]
    for row in rows[1:]:
        assert set(row["stages_ms"]) == {"decode", "queue", "inference", "postprocess", "total"}
        assert 0 < row["stages_ms"]["total"] < row["p50_ms"]
    assert "outside" in done.stdout

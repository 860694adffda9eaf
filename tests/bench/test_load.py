"""The load generator on real sockets, and servers as processes."""

import asyncio
import math
import sys
from pathlib import Path

import pytest

from bench.harness.load import CONNECTION_LOST, ENCODINGS, TIMED_OUT, LoadPlan, Tally, Target, summarize
from bench.harness.load import LoadGenerator as Generator
from bench.harness.processes import NotStarted, members, running
from tests.support.servers.answering import BUSY, OK, Answer, answering


async def load(answer: Answer, plan: LoadPlan) -> Tally:
    async with answering(answer) as port:
        return await Generator(Target(port), [b"image"], plan).run()


async def at_once(number: int) -> bytes:
    await asyncio.sleep(0)
    return OK


async def test_the_open_loop_counts_from_the_time_a_request_was_due() -> None:
    """20 are due within 0.2 s, the one connection answers one in 50 ms: the last waits 0.8 s."""

    async def slow(number: int) -> bytes:
        await asyncio.sleep(0.05)
        return OK

    plan = LoadPlan(connections=1, seconds=0.2, rate=100)
    tally = await load(slow, plan)
    assert tally.statuses == {200: 20}
    assert tally.latencies == sorted(tally.latencies)
    assert tally.latencies[-1] >= 20 * 0.05 - 0.19 - 0.001
    assert summarize(tally, plan).images_per_second <= 4 / 0.2  # the answers within the time


async def test_one_stall_delays_all_requests_due_meanwhile() -> None:
    async def stalling(number: int) -> bytes:
        await asyncio.sleep(0.5 if number == 1 else 0)
        return OK

    tally = await load(stalling, LoadPlan(connections=1, seconds=0.5, rate=40))
    assert sum(latency > 0.2 for latency in tally.latencies) >= 11  # due in the first 0.3 s; a closed loop: 1


async def test_a_closed_loop_has_one_request_in_flight_for_each_connection() -> None:
    in_flight = most = 0

    async def counting(number: int) -> bytes:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0.01)
        in_flight -= 1
        return OK

    plan = LoadPlan(connections=3, seconds=0.2)
    tally = await load(counting, plan)
    assert most == 3
    assert len(tally.latencies) == tally.statuses[200] >= 3
    rate = len(tally.finished) / max(tally.finished)
    assert summarize(tally, plan).images_per_second == pytest.approx(rate, rel=1e-9)


async def test_a_closed_loop_ends_after_its_number_of_requests() -> None:
    assert (await load(at_once, LoadPlan(4, 60, requests=30))).statuses == {200: 30}


async def test_rejections_are_errors_and_a_missing_retry_after_is_counted() -> None:
    async def rejecting(number: int) -> bytes:
        return BUSY % (b"Retry-After: 1\r\n" if number % 2 else b"")

    plan = LoadPlan(connections=1, seconds=0.2, rate=50)
    tally = await load(rejecting, plan)
    assert (tally.statuses, tally.without_retry_after) == ({429: 10}, 5)
    result = summarize(tally, plan)
    assert (result.errors, result.error_count) == ({"429": 10}, 10)
    assert math.isnan(result.p99_ms)


async def test_closed_broken_and_silent_connections() -> None:
    async def closing(number: int) -> bytes:
        return OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    async def breaking(number: int) -> bytes:
        return b""

    async def silent(number: int) -> bytes:
        await asyncio.Event().wait()
        return OK

    assert (await load(closing, LoadPlan(2, 0.2, rate=50))).statuses == {200: 10}  # connects again
    assert (await load(breaking, LoadPlan(1, 0.2, rate=20))).statuses == {CONNECTION_LOST: 4}
    assert (await load(silent, LoadPlan(4, 0.1, rate=40, timeout=0.2))).statuses == {TIMED_OUT: 4}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_request_has_its_own_length(encoding: str) -> None:
    head, _, body = Target(80, "/x", encoding).request(b"\xff\xd8image").partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert (b"\xff\xd8image" in body) == (encoding != "json")


SERVER = """
import pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
pathlib.Path(sys.argv[1]).touch()
child.wait()
"""


def test_a_server_ends_with_all_of_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.harness.processes.GRACE", 2.0)  # the child receives no signal
    up = tmp_path / "up"
    with running([sys.executable, "-c", SERVER, str(up)], {}, up.exists, 20) as server:
        assert len(members(server.mark)) == 2
        assert server.resident_mebibytes() > 1
    assert members(server.mark) == []
    with pytest.raises(NotStarted, match="no output"), running(["sleep", "9"], {}, lambda: False, 0.3):
        pass

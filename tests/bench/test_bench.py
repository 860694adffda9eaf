"""The benchmarks' arithmetic, on real sockets and real canvases, and one real run of the smallest kind."""

import asyncio
import io
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bench import mix, overload, server
from bench.harness import contest, pictures
from bench.harness.contest import Course, Result
from bench.harness.load import LOST, NO_ANSWER, Asker, Figures, Plan, Tally, Target, figures, percentile
from bench.harness.processes import NotStarted, members, running
from bench.peers.catalogue import PEERS, Peer, chosen, failure_note
from models.images.decoder import Image
from models.pipeline.canvas import prepare
from tests.support.answering import BUSY, OK, Answer, answering

ROOT = Path(__file__).parents[2]
# -- the load generator --------------------------------------------------------------------------------------


async def asked(answer: Answer, plan: Plan) -> Tally:
    async with answering(answer) as port:
        return await Asker(Target(port), [b"image"], plan).run()


async def test_the_open_loop_counts_from_the_time_a_request_was_due() -> None:
    """20 are due within 0.2 s, the one connection answers one in 50 ms: the last waits 0.8 s."""

    async def slow(number: int) -> bytes:
        await asyncio.sleep(0.05)
        return OK

    plan = Plan(connections=1, seconds=0.2, rate=100)
    tally = await asked(slow, plan)
    assert tally.statuses == {200: 20}
    assert tally.latencies == sorted(tally.latencies)
    assert tally.latencies[-1] >= 20 * 0.05 - 0.19 - 0.001
    assert figures(tally, plan).images_per_second <= 4 / 0.2  # those that came within the time


async def test_one_stall_is_felt_by_all_that_were_due_meanwhile() -> None:
    async def stalling(number: int) -> bytes:
        await asyncio.sleep(0.5 if number == 1 else 0)
        return OK

    tally = await asked(stalling, Plan(connections=1, seconds=0.5, rate=40))
    felt = sum(latency > 0.2 for latency in tally.latencies)
    assert felt >= 11  # due in the first 0.3 s; a closed loop would have seen one


async def test_a_closed_loop_has_one_request_out_a_connection() -> None:
    out = most = 0

    async def counting(number: int) -> bytes:
        nonlocal out, most
        out += 1
        most = max(most, out)
        await asyncio.sleep(0.01)
        out -= 1
        return OK

    plan = Plan(connections=3, seconds=0.2)
    tally = await asked(counting, plan)
    assert most == 3
    assert len(tally.latencies) == tally.statuses[200] >= 3
    assert figures(tally, plan).images_per_second == pytest.approx(
        len(tally.finished) / max(tally.finished), rel=1e-9
    )


async def test_refusals_are_errors_and_their_retry_after_is_looked_for() -> None:
    async def refusing(number: int) -> bytes:
        return BUSY % (b"Retry-After: 1\r\n" if number % 2 else b"")

    tally = await asked(refusing, Plan(connections=1, seconds=0.2, rate=50))
    assert tally.statuses == {429: 10}
    assert tally.without_retry_after == 5
    found = figures(tally, Plan(1, 0.2, rate=50))
    assert found.errors == {"429": 10}
    assert math.isnan(found.p99_ms)


async def test_a_server_that_closes_after_each_answer_is_asked_again() -> None:
    async def closing(number: int) -> bytes:
        return OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    assert (await asked(closing, Plan(2, 0.2, rate=50))).statuses == {200: 10}


async def test_a_broken_connection_and_a_missing_answer_are_counted() -> None:
    async def breaking(number: int) -> bytes:
        return b""

    async def silent(number: int) -> bytes:
        await asyncio.Event().wait()
        return OK

    assert (await asked(breaking, Plan(1, 0.2, rate=20))).statuses == {LOST: 4}
    plan = Plan(4, 0.1, rate=40, patience=0.2)
    async with answering(silent) as port:
        assert (await Asker(Target(port), [b"image"], plan).run()).statuses == {NO_ANSWER: 4}


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([5.0], 0.5, 5.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 102)], 0.99, 100.0),
        ([1.0, 9.0], 1.0, 9.0),
    ],
)
def test_percentiles_are_values_that_occurred(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


@pytest.mark.parametrize("encoding", ["raw", "multipart", "json"])
def test_a_request_says_its_own_length(encoding: str) -> None:
    head, _, body = Target(80, "/x", encoding).request(b"\xff\xd8image").partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert (b"\xff\xd8image" in body) == (encoding != "json")


# -- bench.server --------------------------------------------------------------------------------------------

RUN = Figures(10.0, 100.0, 200.0, 300.0, 50, {}, 0)


def course(tmp_path: Path) -> Course:
    return Course("shapes", pictures.write(tmp_path / "scene.jpg"), (1,), (), 0.5, tmp_path, 1)


def test_medians_over_the_rounds_are_taken_number_by_number() -> None:
    rounds = [
        Result(
            "a", "ours", {"1": replace(RUN, images_per_second=rate, p99_ms=p99, errors=errors)}, 100.0, 1.0
        )
        for rate, p99, errors in ((8.0, 10.0, {"429": 2}), (9.0, 30.0, {}), (7.0, 20.0, {"429": 1, "500": 1}))
    ]
    found = contest.median([Result("a", "ours", reason="did not start"), *rounds])
    assert found.points["1"] == replace(RUN, images_per_second=8.0, p99_ms=20.0, errors={"429": 3, "500": 1})
    assert found.reason == ""
    assert found.capacity == 8.0


def test_ratios_are_above_one_where_the_service_is_ahead() -> None:
    ours = Result("rcnn-serve", "ours", {"4": RUN, "1x": RUN})
    slower = Result("ray", "eager", {"4": replace(RUN, images_per_second=4.0, p99_ms=500.0), "1x": RUN})
    assert list(server.ratios([ours, slower])) == [("ray", "eager", "4", 2.5, 2.5)]


def test_the_table_of_ratios_has_the_loop_as_http_efficiency() -> None:
    """The faster of the loop's two; its engine is ours, not torchvision's."""
    rates = {"1": replace(RUN, images_per_second=9.0), "8": replace(RUN, images_per_second=12.5)}
    loops = [Result("loop", "ours", rates), Result("loop", "eager", {"1": RUN})]
    ours = Result("rcnn-serve", "ours", {"16": RUN, "1": replace(RUN, images_per_second=5.0), "1x": RUN})
    peer = Result("ray", "eager", {"1": replace(RUN, images_per_second=2.0, p99_ms=500.0)})
    assert server.efficiency([*loops, ours, peer]) == {"16": 0.8, "1": 0.4}
    assert server.efficiency([ours, peer]) == server.efficiency(loops) == {}
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(server.ahead([*loops, ours, peer], "over each"))
    table = console.export_text().replace("│", " ").splitlines()
    rows = [line.split() for line in table if line.startswith(("  ray", "  loop"))]
    assert rows == [["ray", "eager", "2.50", "2.50"], ["loop", "ours", "0.40", "0.80"]]


def test_a_peer_that_is_not_there_or_does_not_start_is_in_the_table(tmp_path: Path) -> None:
    given = course(tmp_path)
    absent = Peer("absent", ("-m", "absent"), packages=("absent",))
    broken = Peer("broken", ("-c", "raise SystemExit('no licence for this machine')"))
    results = [contest.run(absent, "eager", given), contest.run(broken, "ours", given)]
    failure_note(tmp_path, "absent").write_text("ERROR: No matching distribution")
    results.append(contest.run(absent, "eager", given))
    assert [result.reason for result in results] == [
        "not installed: run make bench-peers",
        "did not start: no licence for this machine",
        "not installed: ERROR: No matching distribution",
    ]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(server.table([*results, Result("rcnn-serve", "ours", {"1": RUN})], "all"))
    text = console.export_text()
    assert "no licence for this machine" in text
    assert "10.00  100  200" in text


SERVER = """
import pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
pathlib.Path(sys.argv[1]).touch()
child.wait()
"""


def test_a_server_ends_with_all_of_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.harness.processes.GRACE", 2.0)  # the child hears of no signal
    up = tmp_path / "up"
    with running([sys.executable, "-c", SERVER, str(up)], {}, up.exists, 20) as found:
        assert found.mark
        assert len(members(found.mark)) == 2
        assert found.resident_mebibytes() > 1
    assert members(found.mark) == []
    with pytest.raises(NotStarted, match="it said nothing"), running(["sleep", "9"], {}, lambda: False, 0.3):
        pass


def test_every_peer_has_a_file_and_a_name_that_can_be_chosen() -> None:
    assert [peer.name for peer in chosen([peer.name for peer in PEERS])] == [peer.name for peer in PEERS]
    for peer in PEERS[1:]:
        [module] = [part for part in peer.arguments if part.startswith("bench.")]
        assert (ROOT / (module.partition(":")[0].replace(".", "/") + ".py")).is_file()
    with pytest.raises(SystemExit, match="no such server: triton; there are rcnn-serve, fastapi"):
        chosen(["triton"])


def test_quick_run_of_the_service_alone(tmp_path: Path) -> None:
    """The real program: it starts the real service and asks it over a socket, from a third process."""
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m", "bench.server", "--quick", "--servers", "rcnn-serve", "--no-loop"]
    command += ["--seconds", "0.5", "--threads", "1", "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    everything = json.loads(out.read_text())
    [result] = everything["loads"]["light"]
    assert result["server"] == "rcnn-serve"
    assert set(result["points"]) == {"1", "4", "1x"}
    for point in result["points"].values():
        assert point["answered"] > 0
        assert point["errors"] == {}
        assert 0 < point["p50_ms"] <= point["p99_ms"] <= point["slowest_ms"]
    assert result["resident_mebibytes"] > 100
    assert {"cpu", "cores", "date", "torch"} <= set(everything["machine"])
    assert "rcnn-serve" in done.stdout


# -- bench.mix and bench.overload ----------------------------------------------------------------------------


def test_padding_is_counted_by_hand() -> None:
    """640x480 at 800: 800x1066 in 800x1088; its portrait; 500x500 fills 800x800."""
    shapes = [(480, 640, 3), (640, 480, 3), (500, 500, 3)]
    images = [Image(np.zeros(shape, np.uint8), "PNG") for shape in shapes]
    mine = mix.ours([prepare(image, 800, 1333) for image in images])
    assert mine.needed == 2 * 800 * 1066 + 800 * 800
    assert mine.computed == 2 * 800 * 1088 + 800 * 800
    assert mine.waste == pytest.approx(1 - mine.needed / mine.computed)
    assert mine.ratio == pytest.approx(mine.computed / mine.needed)


def test_torchvision_pads_the_same_images_to_the_largest() -> None:
    """A landscape and a portrait in one batch: both become 1088x1088."""
    shapes = [(480, 640, 3), (640, 480, 3)]
    images = [Image(np.zeros(shape, np.uint8), "PNG") for shape in shapes]
    transform = mix.GeneralizedRCNNTransform(800, 1333, [0.0] * 3, [1.0] * 3)
    together, apart = mix.theirs(images, 2, transform), mix.theirs(images, 1, transform)
    assert together == mix.Pixels(2 * 1088 * 1088, 2 * 800 * 1066)
    assert apart == mix.Pixels(2 * 800 * 1088, 2 * 800 * 1066)


def test_the_mixture_wastes_little_here() -> None:
    names = [name for name, _ in mix.mixture(10)]
    assert sorted(names) == sorted([*mix.SHAPES] * 2)
    mine, other = mix.compare("coco-r50-fpn", 10, 5)
    assert mine.needed == other.needed
    assert mine.waste <= 0.03 < 0.2 < other.waste


def test_the_mean_of_a_histogram_is_read_from_the_metrics() -> None:
    text = 'rcnn_batch_size_bucket{le="1.0"} 1.0\nrcnn_batch_size_count 4.0\nrcnn_batch_size_sum 10.0\n'
    assert mix.mean(text, "rcnn_batch_size") == 2.5


def test_the_verdict_holds_the_last_load_against_the_best_and_the_deadline() -> None:
    rates = {"8 clients": (20.0, 400.0), "1x": (19.0, 900.0), "4x": (19.5, 1500.0)}
    found = [
        overload.Run(load, replace(RUN, images_per_second=rate, p99_ms=p99), 500.0)
        for load, (rate, p99) in rates.items()
    ]
    assert overload.verdict(found, 2000) == {"goodput_over_peak": 0.975, "p99_over_deadline": 0.75}


def test_rounds_of_a_load_are_one_row_of_medians() -> None:
    """One lucky minute is no peak; errors are of all rounds, the slowest answer is the slowest of all."""
    rounds = [
        overload.Run(
            load, replace(RUN, images_per_second=rate, slowest_ms=10 * rate, errors={"429": int(rate)}), rate
        )
        for rates in ((20.0, 18.0), (30.0, 19.0), (19.0, 19.5))
        for load, rate in zip(("1x", "4x"), rates, strict=True)
    ]
    once, fourfold = overload.medians(rounds)
    assert (once.load, fourfold.load) == ("1x", "4x")
    assert (once.figures.images_per_second, fourfold.figures.images_per_second) == (20.0, 19.0)
    assert once.figures.slowest_ms == 300.0
    assert once.figures.errors == {"429": 69}
    assert once.figures.answered == 3 * RUN.answered
    assert once.resident_mebibytes == 19.0


def test_overload_runs_with_a_device_that_only_takes_its_time(tmp_path: Path) -> None:
    """The real program and the real service; half a second a load."""
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m", "bench.overload", "--stand-in", "--slower", "0.5", "--json", str(out)]
    command += ["--rounds", "2", "--seconds", "0.5", "--factors", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    runs = json.loads(out.read_text())["runs"]
    assert [run["load"] for run in runs] == ["8 clients", "64 clients", "1x"] * 2
    for run in runs:
        assert run["figures"]["answered"] > 0
        assert set(run["figures"]["errors"]) <= {"429"}
        assert run["figures"]["without_retry_after"] == 0
    assert "a stand-in for its device" in done.stdout

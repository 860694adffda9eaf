"""The comparison of servers and the overload: medians, ratios, failures, the catalogue of peers."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench import overload, server
from bench.harness import contest, pictures
from bench.harness.contest import Scenario, ServerResult
from bench.harness.load import LoadResult
from bench.harness.processes import ROOT
from bench.peers.catalogue import PEERS, Peer, failure_note, select_peers

RUN = LoadResult(10.0, 100.0, 200.0, 300.0, 50, {}, 0)


def test_rounds_are_combined_number_by_number() -> None:
    """Medians of rates and times, the slowest answer of all, the sums of answers and errors."""
    errors: tuple[dict[str, int], ...] = ({"429": 2}, {}, {"429": 1, "500": 1})
    rounds = [
        replace(RUN, images_per_second=rate, p99_ms=10 * rate, slowest_ms=100 * rate, errors=counts)
        for rate, counts in zip((8.0, 9.0, 7.0), errors, strict=True)
    ]
    results = [ServerResult("a", "ours", {"1": one}, 100.0, 1.0) for one in rounds]
    combined = contest.combine_rounds([ServerResult("a", "ours", reason="did not start"), *results])
    total = {"429": 3, "500": 1}
    assert combined.loads["1"] == LoadResult(8.0, 100.0, 80.0, 900.0, 150, total, 0)
    assert (combined.reason, combined.capacity) == ("", 8.0)


def test_ratios_are_above_one_if_the_service_is_ahead_and_the_loop_is_the_efficiency(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The faster of the loop's two counts; its engine is ours, not torchvision's."""
    rates = {"1": replace(RUN, images_per_second=9.0), "8": replace(RUN, images_per_second=12.5)}
    loops = [ServerResult("loop", "ours", rates), ServerResult("loop", "eager", {"1": RUN})]
    loads = {"16": RUN, "1": replace(RUN, images_per_second=5.0), "1x": RUN}
    ours = ServerResult("rcnn-serve", "ours", loads)
    slow = {"1": replace(RUN, images_per_second=2.0, p99_ms=500.0), "1x": RUN}
    peer = ServerResult("ray", "eager", slow)
    assert list(server.ratios([ours, peer])) == [("ray", "eager", "1", 2.5, 2.5)]
    assert server.efficiency([*loops, ours, peer]) == {"16": 0.8, "1": 0.4}
    assert server.efficiency([ours, peer]) == server.efficiency(loops) == {}
    server.print_ratios([*loops, ours, peer], "over each")
    table = capsys.readouterr().out.replace("│", " ").splitlines()
    rows = [line.split() for line in table if line.startswith(("  ray", "  loop"))]
    assert rows == [["ray", "eager", "2.50", "2.50"], ["loop", "ours", "0.40", "0.80"]]


def test_a_missing_or_broken_peer_has_its_reason_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = Scenario("shapes", pictures.write(tmp_path / "scene.jpg"), (1,), (), 0.5, tmp_path, 1)
    absent = Peer("absent", ("-m", "absent"), packages=("absent",))
    broken = Peer("broken", ("-c", "raise SystemExit('no licence for this machine')"))
    results = [
        contest.measure_peer(absent, "eager", scenario),
        contest.measure_peer(broken, "ours", scenario),
    ]
    failure_note(tmp_path, "absent").write_text("ERROR: No matching distribution")
    results.append(contest.measure_peer(absent, "eager", scenario))
    assert [result.reason for result in results] == [
        "not installed: run make bench-peers",
        "did not start: no licence for this machine",
        "not installed: ERROR: No matching distribution",
    ]
    server.print_results([*results, ServerResult("rcnn-serve", "ours", {"1": RUN})], "all")
    text = capsys.readouterr().out
    assert "no licence for this machine" in text
    assert "10.00  100  200" in text


def test_every_peer_has_a_file_and_a_name() -> None:
    assert select_peers([peer.name for peer in PEERS]) == list(PEERS)
    for peer in PEERS[1:]:
        [module] = [part for part in peer.arguments if part.startswith("bench.")]
        assert (ROOT / (module.partition(":")[0].replace(".", "/") + ".py")).is_file()
    with pytest.raises(SystemExit, match="no such server: triton; there are rcnn-serve, fastapi"):
        select_peers(["triton"])


def test_overload_compares_the_last_load_with_the_best_and_the_deadline() -> None:
    rates = {"8": (20.0, 400.0), "1x": (19.0, 900.0), "4x": (19.5, 1500.0)}
    results = {load: replace(RUN, images_per_second=rate, p99_ms=p99) for load, (rate, p99) in rates.items()}
    assert overload.summarize(results, 2000) == {"goodput_over_peak": 0.975, "p99_over_deadline": 0.75}

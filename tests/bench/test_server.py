"""The comparison of servers and the overload: medians, ratios, failures, the catalogue of peers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import overload
from bench.harness import contest, pictures
from bench.harness.contest import Scenario, ServerResult
from bench.harness.load import LoadResult
from bench.harness.processes import ROOT
from bench.peers.catalogue import PEERS, Peer, failure_note, select_peers
from bench.servers import tables
from bench.servers.agreement import agreement

ANSWER: dict[str, Any] = {
    "boxes": [[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 40.0]],
    "labels": [1, 2],
    "scores": [0.9990, 0.7],
}
RUN = LoadResult(10.0, 100.0, 150.0, 200.0, 300.0, 50, {}, 0)


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
    assert combined.loads["1"] == LoadResult(8.0, 100.0, 150.0, 80.0, 900.0, 150, total, 0)
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
    assert list(tables.ratios([ours, peer])) == [("ray", "eager", "1", 2.5, 2.5)]
    assert tables.efficiency([*loops, ours, peer]) == {"16": 0.8, "1": 0.4}
    assert tables.efficiency([ours, peer]) == tables.efficiency(loops) == {}
    tables.print_ratios([*loops, ours, peer], "over each")
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
    tables.print_results([*results, ServerResult("rcnn-serve", "ours", {"1": RUN})], "all")
    text = capsys.readouterr().out
    assert "no licence for this machine" in text
    assert "10.00  100  200" in text


def test_the_tables_of_a_page_have_each_load_and_why_a_server_was_not_measured() -> None:
    loads = {"4": replace(RUN, errors={"429": 3}), "1.5x": RUN}
    ours = ServerResult("rcnn-serve", "ours", loads, 300.4, 2.5, answer=ANSWER)
    peer = replace(ours, server="mosec", engine="eager", answer={**ANSWER, "scores": [0.9, 0.8]})
    marks = "".join(f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in ("p", "p-open", "p-over"))
    page = tables.tables_in_page(
        marks, "p", [ours, peer, ServerResult("x", "ours", reason="broken")], "When."
    )
    assert page.splitlines() == [
        "<!-- p -->",
        "| Server | model | answer | 4 at once | RSS, MiB | ready, s | not measured |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| rcnn-serve | ours |  | 10.00, 100, 200 !3 | 300 | 2.5 |  |",
        "| mosec | torchvision | 2 of 2 | 10.00, 100, 200 !3 | 300 | 2.5 |  |",
        "| x | ours |  |  |  |  | broken |",
        *("", "When.", "<!-- /p -->", "<!-- p-open -->"),
        "| Server | model | 1.5 of capacity |",
        "| --- | --- | --- |",
        *(f"| {name} | 10.00, 100, 200 |" for name in ("rcnn-serve | ours", "mosec | torchvision")),
        *("<!-- /p-open -->", "<!-- p-over -->"),
        "| over | engine | 4 at once: img/s, p99 |",
        "| --- | --- | --- |",
        *("| mosec | eager | 1.00, 1.00 |", "<!-- /p-over -->"),
    ]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "same"),
        ({"scores": [0.9995, 0.7]}, "same"),
        ({"scores": [0.99, 0.7]}, "2 of 2"),
        ({"boxes": [[0.0, 0.0, 10.2, 10.0], [20.0, 20.0, 30.0, 40.0]]}, "2 of 2"),
        ({"boxes": [[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]]}, "1 of 2"),
        ({"labels": [2, 1]}, "0 of 2"),
        ({"boxes": [], "labels": [], "scores": []}, "0 of 2"),
    ],
)
def test_answers_agree_by_box_class_and_score(changed: dict[str, Any], expected: str) -> None:
    assert agreement({**ANSWER, **changed}, ANSWER) == expected
    assert agreement(None, ANSWER) == ""


def test_every_peer_has_a_file_and_a_name() -> None:
    assert select_peers([peer.name for peer in PEERS]) == list(PEERS)
    for peer in [peer for peer in PEERS[1:] if not peer.unavailable]:
        [module] = [part for part in peer.arguments if part.startswith("bench.")]
        assert (ROOT / (module.partition(":")[0].replace(".", "/") + ".py")).is_file()
    with pytest.raises(SystemExit, match="no such server: tritton; there are rcnn-serve, fastapi"):
        select_peers(["tritton"])


def test_overload_compares_the_last_load_with_the_best_and_the_deadline() -> None:
    rates = {"8": (20.0, 400.0), "1x": (19.0, 900.0), "4x": (19.5, 1500.0)}
    results = {load: replace(RUN, images_per_second=rate, p99_ms=p99) for load, (rate, p99) in rates.items()}
    assert overload.summarize(results, 2000) == {"goodput_over_peak": 0.975, "p99_over_deadline": 0.75}

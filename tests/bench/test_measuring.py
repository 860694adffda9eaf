"""The measuring loop, its statistics, the table printer, and the comparison of two trees."""

import json
from pathlib import Path

import pytest

from bench import compare
from bench.harness.measuring import interleaved, median_interval, percentile
from bench.harness.options import print_table, replace_table


def test_variants_take_turns() -> None:
    order: list[str] = []
    variants = {name: lambda item, name=name: order.append(f"{name}{item}") or item for name in "ab"}
    assert interleaved(variants, range(2)) == {"a": [0, 1], "b": [0, 1]}
    assert order == ["a0", "b0", "a1", "b1"]


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


@pytest.mark.parametrize(
    ("count", "low", "high", "confidence"),
    [(3, 1, 3, 0.75), (7, 1, 7, 1 - 2 / 128), (9, 2, 8, 1 - 20 / 512), (20, 6, 15, 0.9586)],
)
def test_the_interval_of_a_median_is_that_of_order_statistics(
    count: int, low: int, high: int, confidence: float
) -> None:
    """As in tables of the sign test: of 20 values the sixth to the fifteenth."""
    interval = median_interval([float(value) for value in range(count, 0, -1)])
    assert (interval.low, interval.high, interval.median) == (low, high, (count + 1) / 2)
    assert interval.confidence == pytest.approx(confidence, abs=1e-4)


def test_tables_leave_missing_values_empty(capsys: pytest.CaptureFixture[str]) -> None:
    columns = {"name": "{name}", "ms": "{times[ms]:.1f}", "double": lambda row: 2 * row["count"]}
    rows = [{"name": "a", "times": {"ms": 1.25}}, {"name": "b", "times": {"ms": float("nan")}, "count": 2}]
    print_table("title", columns, rows, "caption")
    text = capsys.readouterr().out
    assert all(
        part in text for part in ("title", "caption", "│ a    │ 1.2 │        │", "│ b    │     │      4 │")
    )
    page = "<!-- t -->\nold\n<!-- /t -->\nrest\n"
    table = "| name | ms | double |\n| --- | --- | --- |\n| a | 1.2 |  |\n| b |  | 4 |\n"
    assert replace_table(page, "t", columns, rows) == f"<!-- t -->\n{table}<!-- /t -->\nrest\n"


BENCHMARK = """
import json, pathlib, sys
count = pathlib.Path("runs")
number = int(count.read_text()) if count.exists() else 0
count.write_text(str(number + 1))
rows = [{{"engine": name, "ms": {base} + number, "ratio": 1.0}} for name in sys.argv[1:-2]]
pathlib.Path(sys.argv[-1]).write_text(json.dumps({{"rows": rows}}))
"""


def test_two_trees_are_compared_in_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each run of a tree is a millisecond slower than the one before; pairs see the trees' ratio alone."""
    for tree, base in (("before", 100), ("after", 110)):
        (tmp_path / tree / "bench").mkdir(parents=True)
        (tmp_path / tree / "bench" / "engine.py").write_text(BENCHMARK.format(base=base))
    out = tmp_path / "out.json"
    command = ["--before", str(tmp_path / "before"), "--after", str(tmp_path / "after"), "--pairs", "6"]
    arguments = [*command, "--json", str(out), "--", "engine", "fp32", "int8"]
    monkeypatch.setattr("sys.argv", ["compare", *arguments])
    assert compare.main() == 1
    [row, other] = json.loads(out.read_text())["rows"]
    assert (row["row"], other["row"], row["before"], row["after"]) == ("fp32", "int8", 102.5, 112.5)
    assert (row["low"], row["high"]) == pytest.approx((115 / 105, 1.1))
    assert (row["no_slower"], row["confidence"]) == ("no", 1 - 2 / 64)
    assert "1.095 to 1.100" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["compare", "--bound", "1.0999", *arguments])
    assert compare.main() == 0


def test_a_row_is_no_slower_only_with_its_whole_interval() -> None:
    before = [{"a": 10.0, "gone": 1.0}] * 7
    after = [{"a": 10.0 + step / 10} for step in range(7)]
    claims = {bound: compare.compare(before, after, bound) for bound in (1.07, 1.02, 0.99)}
    assert [[row["no_slower"] for row in rows] for rows in claims.values()] == [
        ["yes"],
        ["the bound is in the interval"],
        ["no"],
    ]
    assert compare.compare(before[:5], after[:5], 1.07)[0]["no_slower"] == "too few pairs"
    with pytest.raises(ValueError, match="a row has none of ms, p50_ms, seconds"):
        compare.row_times([{"load": "1x"}])

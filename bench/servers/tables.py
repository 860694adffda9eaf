"""The results of servers as tables: printed, and for a page; ratios of this service over each."""

import math
from collections.abc import Iterator, Sequence
from functools import partial

from bench.harness.contest import LOOP, ServerResult
from bench.harness.load import LoadResult
from bench.harness.options import Columns, Row, print_table, replace_table
from bench.peers.catalogue import SERVICE
from bench.servers.agreement import agreement

ENGINE_NAMES = {"eager": "torchvision", "ours": "ours"}


def print_results(results: Sequence[ServerResult], heading: str) -> None:
    """A row a server: for each load images/s, p50 and p99 in ms, ! with the number of errors."""
    names = sorted({name for result in results for name in result.loads}, key=_order)
    columns: Columns = {"server": "{server}", "engine": "{engine}", "answer": partial(_agreement, results)}
    for name in names:
        unit = "of capacity" if name.endswith("x") else "at once"
        columns = {**columns, f"{name} {unit}\nimg/s  p50  p99": partial(_load_cell, name)}
    columns = {**columns, "RSS MiB": "{resident_mebibytes:.0f}", "ready s": "{start_seconds:.1f}"}
    reasons = [f"{result.server} ({result.engine}): {result.reason}" for result in results if result.reason]
    print_table(heading, columns, [vars(result) for result in results], "\n".join(reasons))


def _load_cell(name: str, row: Row) -> str:
    load: LoadResult = row["loads"][name]
    errors = f" !{load.error_count}" if load.errors else ""
    times = "  ".join("" if math.isnan(value) else f"{value:.0f}" for value in (load.p50_ms, load.p99_ms))
    return f"{load.images_per_second:.2f}  {times}{errors}"


def _page_cell(name: str, row: Row) -> str:
    """As a cell of the printed table, with commas."""
    return _load_cell(name, row).replace("  ", ", ").replace(", , ", ", ").strip(", ")


def _agreement(results: Sequence[ServerResult], row: Row) -> str:
    ours = _service(results)
    return agreement(row["answer"], ours.answer) if ours and row["server"] != SERVICE else ""


def tables_in_page(page: str, name: str, results: Sequence[ServerResult], note: str) -> str:
    """The page with its tables `name` (closed loops), `name-open` and `name-over` (ratios) replaced."""
    rows = [row for result in results for row in _page_rows(result)]
    loads = sorted({load for row in rows for load in row["loads"]}, key=_order)
    server: Columns = {"Server": "{server}", "model": lambda row: ENGINE_NAMES[row["engine"]]}
    closed: Columns = {**server, "answer": partial(_agreement, results)}
    closed = {**closed, **{f"{load} at once": partial(_page_cell, load) for load in loads if load[-1] != "x"}}
    closed = {**closed, "RSS, MiB": "{resident_mebibytes:.0f}", "ready, s": "{start_seconds:.1f}"}
    opened: Columns = {
        f"{load[:-1]} of capacity": partial(_page_cell, load) for load in loads if load[-1] == "x"
    }
    page = replace_table(page, name, {**closed, "not measured": "{reason}"}, rows, note)
    page = replace_table(
        page, f"{name}-open", {**server, **opened}, [row for row in rows if len(row["loads"]) > 1]
    )
    return replace_table(page, f"{name}-over", *_ratio_table(results, ", "))


def ratios(results: Sequence[ServerResult]) -> Iterator[tuple[str, str, str, float, float]]:
    """Server, engine, load, ratio of images/s and of p99: above 1 the service is ahead."""
    ours = _service(results)
    for result in results:
        if ours is None or result.server in (SERVICE, LOOP):
            continue
        for name in [name for name in result.loads if name in ours.closed_loops]:
            here, there = ours.loads[name], result.loads[name]
            faster = here.images_per_second / there.images_per_second if there.images_per_second else math.inf
            yield result.server, result.engine, name, faster, there.p99_ms / here.p99_ms


def efficiency(results: Sequence[ServerResult]) -> dict[str, float]:
    """Images/s of the service over those of the same engine in the faster loop, by connections.

    Above 1: the service decodes while the device computes, a loop does one after the other.
    """
    ours = _service(results)
    loops = [result.capacity for result in results if result.server == LOOP and result.engine == "ours"]
    if ours is None or not any(loops):
        return {}
    return {name: load.images_per_second / max(loops) for name, load in ours.closed_loops.items()}


def print_ratios(results: Sequence[ServerResult], heading: str) -> None:
    """A row a peer: for each number of connections the ratios of images/s and of p99."""
    print_table(heading, *_ratio_table(results, "  "))


def _page_rows(result: ServerResult) -> Iterator[Row]:
    """A row a server; two for the loop, of one image and of batches, which one caller sends at once."""
    if result.server != LOOP or not result.loads:
        yield vars(result)
        return
    for batch, load in result.loads.items():
        name = LOOP if batch == "1" else f"{LOOP}, batches of {batch}"
        yield {**vars(result), "server": name, "loads": {"1": load}}


def _ratio_table(results: Sequence[ServerResult], separator: str) -> tuple[Columns, list[dict[str, str]]]:
    ours = _service(results)
    names = sorted(ours.closed_loops, key=_order) if ours else []
    columns: Columns = {"over": "{server}", "engine": "{engine}"}
    columns = {**columns, **{f"{name} at once: img/s, p99": f"{{at {name}}}" for name in names}}
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for server, engine, name, faster, quicker in ratios(results):
        row = rows.setdefault((server, engine), {"server": server, "engine": engine})
        row[f"at {name}"] = f"{faster:.2f}{separator}{quicker:.2f}"
    if shares := efficiency(results):
        loop = {f"at {name}": f"{share:.2f}" for name, share in shares.items()}
        rows[LOOP, "ours"] = {"server": LOOP, "engine": "ours", **loop}
    return columns, list(rows.values())


def _service(results: Sequence[ServerResult]) -> ServerResult | None:
    return next((result for result in results if result.server == SERVICE and result.loads), None)


def _order(load: str) -> tuple[bool, float]:
    """Closed loops first, each kind from few to many."""
    return load.endswith("x"), float(load.rstrip("x"))

"""Closed loops as connections, models or processes grow: images/s, p50, p99, errors, RSS."""

import argparse
import math
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.harness import cards, pictures
from bench.harness.load import LoadPlan, LoadResult, Target, combine, measure
from bench.harness.options import Columns
from bench.harness.service import serving
from models.zoo.catalogue import ZOO

CONNECTIONS = (1, 4, 16, 64, 256, 1000)
MODELS = (1, 2, 3, 4)
ALTOGETHER = 16  # connections, shared by the models or processes
LOAD: Columns = {
    "images/s": "{images_per_second:.1f}",
    "ratio": "{ratio:.2f}",
    "p50 ms": "{p50_ms:.0f}",
    "p99 ms": "{p99_ms:.0f}",
    "errors": lambda row: ", ".join(f"{status}: {count}" for status, count in row["errors"].items()) or "0",
    "RSS MiB": "{resident_mebibytes:.0f}",
}


def connections(points: list[float], arguments: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """One process with room for all of them in its queue."""
    image = pictures.write(folder / "scene.jpg")
    most = max(64, 2 * int(max(points)))
    settings = {"model": cards.find(arguments.model, folder), "inference_threads": arguments.threads}
    with serving(**settings, max_queue=most, timeout_ms=600_000) as (target, server):
        measure(target, [image], LoadPlan(4, 1.0))  # warm-up
        for count in map(int, points):
            results = [
                measure(target, [image], LoadPlan(count, arguments.seconds)) for _ in range(arguments.rounds)
            ]
            yield _row(count, combine(results), server.resident_mebibytes())


def models(points: list[float], arguments: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """One process with copies of one model under other names, each asked by as many connections."""
    image = pictures.write(folder / "scene.jpg")
    for count in map(int, points):
        copies = [copy_card(arguments.model, number, folder) for number in range(count)]
        settings = {"model": ",".join(map(str, copies)), "inference_threads": arguments.threads}
        with serving(**settings, max_loaded_models=count, timeout_ms=600_000) as (target, server):
            targets = [replace(target, path=f"/detect?model={path.stem}") for path in copies]
            result = _together(targets, image, arguments)
            yield _row(count, result, server.resident_mebibytes(), start_seconds=server.start_seconds)


def processes(points: list[float], arguments: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Independent processes that share the threads, each asked by as many connections."""
    image = pictures.write(folder / "scene.jpg")
    for count in map(int, points):
        threads = max(1, arguments.threads // count)
        settings = {"model": arguments.model, "inference_threads": threads, "timeout_ms": 600_000}
        with ExitStack() as stack:
            started = [stack.enter_context(serving(**settings)) for _ in range(count)]
            result = _together([target for target, _ in started], image, arguments)
            resident = sum(server.resident_mebibytes() for _, server in started)
            yield _row(count, result, resident, threads=threads)


def _together(targets: Sequence[Target], image: Path, arguments: argparse.Namespace) -> LoadResult:
    """All targets at the same time; rates are summed, times are medians."""
    plan = LoadPlan(max(1, ALTOGETHER // len(targets)), arguments.seconds)

    def load(target: Target) -> list[LoadResult]:
        measure(target, [image], LoadPlan(1, 60, requests=2))  # warm-up
        return [measure(target, [image], plan) for _ in range(arguments.rounds)]

    with ThreadPoolExecutor(len(targets)) as pool:
        each = [combine(results) for results in pool.map(load, targets)]
    rate = sum(one.images_per_second for one in each)
    return replace(combine(each), images_per_second=rate)


def _row(point: int, result: LoadResult, resident: float, **others: object) -> dict[str, Any]:
    return {**vars(result), "point": point, "resident_mebibytes": resident, **others}


def copy_card(model: str, number: int, folder: Path) -> Path:
    """The zoo's card under another name, with the same weights and without what was recorded of them."""
    text = (ZOO / f"{model}.toml").read_text().partition("\n[")[0]
    text = re.sub(r"(?m)^name = .*$", f'name = "{model}-{number}"', text)
    for name in re.findall(r'"file:([^"]+)"', text):
        shutil.copyfile(ZOO / name, folder / name)
    path = folder / f"{model}-{number}.toml"
    path.write_text(text + "\n")
    return path


def with_ratios(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row with its images/s over those of the first."""
    first = rows[0]["images_per_second"] if rows else math.nan
    return [{**row, "ratio": row["images_per_second"] / first} for row in rows]

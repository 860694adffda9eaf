"""One request at a time, as image, objects or tiles grow: p50, stages, and the ratio to the smallest."""

import argparse
import io
import math
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image as PillowImage

from bench.harness import pictures
from bench.harness.load import Target
from bench.harness.options import Columns
from bench.harness.service import serving
from bench.latency import BlockingClient, Turn, compare, send
from models.shapes.scenes import Scene, draw_scene
from models.tiling.tiles import OVERLAP

IMAGE_MEGAPIXELS = (0.3, 1, 3, 12, 25, 50)
OBJECTS = (0, 10, 100, 1000)
TILES = (1, 4, 16, 64)
CROWDED = (2000, 1500)  # px, of the images with many objects
CROWDED_OPTIONS = "size=1333&max_detections=1000&score_threshold=0.02"  # small shapes have low scores
TILED_SIDE = 2048  # px, of the square image that is cut
STAGES: Columns = {
    "p50 ms": "{p50_ms:.1f}",
    "ratio": "{ratio:.2f}",
    **{f"{stage} ms": f"{{stages_ms[{stage}]:.1f}}" for stage in ("decode", "inference", "postprocess")},
}


@dataclass(frozen=True)
class Case:
    """A request: the image and the route with its options; `row` has what the table says of it."""

    image: bytes
    path: str
    row: Mapping[str, Any]


def image_sizes(points: list[float]) -> Iterator[Case]:
    """Images of the same scene, 4:3."""
    for megapixels in points:
        width = int(math.sqrt(megapixels * 1e6 * 4 / 3))
        image = pictures.jpeg((width, width * 3 // 4))
        yield Case(image, "/detect", {"point": megapixels, "bytes": len(image)})


def objects(points: list[float]) -> Iterator[Case]:
    """Images of one size with scenes side by side, and answers of up to 1,000 objects."""
    for count in points:
        yield Case(crowd(int(count)), f"/detect?{CROWDED_OPTIONS}", {"point": int(count)})


def crowd(count: int) -> bytes:
    """A JPEG with about so many objects: drawn scenes in a square grid, the rest of it grey."""
    sheet = PillowImage.new("RGB", CROWDED, (96, 96, 96))
    scenes: list[Scene] = []
    drawn = 0
    while drawn < count:
        scenes.append(draw_scene(pictures.SEED, len(scenes)))
        drawn += len(scenes[-1].boxes)
    columns = max(1, math.ceil(math.sqrt(len(scenes))))
    size = CROWDED[0] // columns, CROWDED[1] // columns
    for number, scene in enumerate(scenes):
        place = number % columns * size[0], number // columns * size[1]
        sheet.paste(PillowImage.fromarray(np.asarray(scene.pixels)).resize(size), place)
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=pictures.QUALITY)
    return file.getvalue()


def tiles(points: list[float]) -> Iterator[Case]:
    """One square image, cut into a square number of tiles."""
    image = pictures.jpeg((TILED_SIDE, TILED_SIDE))
    for count in points:
        columns = math.isqrt(int(count))
        side = math.ceil(TILED_SIDE / (1 + (columns - 1) * (1 - OVERLAP))) + 4
        path = "/detect" if columns == 1 else f"/detect?tile={side}"
        yield Case(image, path, {"point": columns**2, "side": "" if columns == 1 else side})


def measure(cases: list[Case], arguments: argparse.Namespace, _: Path) -> Iterator[dict[str, Any]]:
    """A row a case; the cases take turns."""
    settings = {"model": arguments.model, "inference_threads": arguments.threads, "timeout_ms": 600_000}
    with serving(**settings) as (target, _server), closing(BlockingClient(target.port)) as client:
        turns: dict[str, Turn] = {
            str(number): partial(send, client, replace(target, path=case.path).request(case.image))
            for number, case in enumerate(cases)
        }
        found = [_found(target, case) for case in cases]
        rows = compare(turns, arguments.rounds, arguments.requests)
    for case, row, count in zip(cases, rows, found, strict=True):
        yield {**case.row, **row, "found": count, "ratio": row["p50_ms"] / rows[0]["p50_ms"]}


def _found(target: Target, case: Case) -> int:
    """The number of detections in the answer."""
    url, headers = f"http://127.0.0.1:{target.port}{case.path}", {"Content-Type": "image/jpeg"}
    answer = httpx.post(url, content=case.image, headers=headers, timeout=600).raise_for_status()
    return len(answer.json()["boxes"])

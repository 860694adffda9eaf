"""What tiles gain on small objects and what they cost: `python -m bench.tiles`.

Drawn scenes of 2000 x 1500 px, four in five shapes 12 to 40 px large, the others 100 to 700; AP from a score
of 0.05 on, at most 100 detections an image, as `rcnn evaluate` counts. "False" are detections from the card's
threshold on that lie on no object of their class. The time is that of decoded image to detections, median of
the images, each image asked in every way in turn.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.harness.machine import describe_machine, title
from bench.harness.options import command_line, write_json
from models.detections import Detections
from models.detector import Detector, DetectorSpec, load_detector
from models.evaluation.answers import FLOOR, MOST_DETECTIONS
from models.evaluation.coco import evaluate
from models.images.decoder import Image
from models.options import Options
from models.shapes.evaluate import scene_truth
from models.shapes.scenes import Scene, draw_large_scene
from models.tiling.tiled_detect import detect_tiled, tiles_for
from models.tiling.tiles import LARGEST_SIDE, OVERLAP, Tiling

HELD_OUT_SEED = 2  # training draws from seed 1
WHOLE = "none"
SHOWN = ("AP", "AP50", "AP_small", "AP_medium", "AP_large")
MATCHING_IOU = 0.5


@dataclass
class Way:
    """One way to ask: a tile of "none", "auto" or px, and what came of it, an entry an image."""

    tile: str
    tiling: Tiling
    tiles: int = 0
    answers: list[Detections] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def ways(tiles: Sequence[str], overlap: float) -> list[Way]:
    """The whole image first, then each tile's side."""
    sides = {WHOLE: LARGEST_SIDE, "auto": None}
    named = [WHOLE, *(tile for tile in tiles if tile != WHOLE)]
    return [Way(tile, Tiling(sides[tile] if tile in sides else int(tile), overlap, 1024)) for tile in named]


def ask(detector: Detector, image: Image, asked: Sequence[Way]) -> None:
    """The image in every way."""
    options = Options(FLOOR, detector.card.nms_threshold, MOST_DETECTIONS)
    for way in asked:
        started = time.perf_counter()
        way.answers.append(detect_tiled(detector, image, options, way.tiling))
        way.seconds.append(time.perf_counter() - started)
        way.tiles = len(tiles_for(detector, image, way.tiling))


def false_alarms(scene: Scene, found: Detections, threshold: float) -> int:
    """Detections that lie on no object of their class."""
    sure = found.scores >= threshold
    low = np.maximum(found.boxes[:, None, :2], scene.boxes[:, :2])
    high = np.minimum(found.boxes[:, None, 2:], scene.boxes[:, 2:])
    shared = (high - low).clip(min=0).prod(axis=2)
    areas = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(axis=1)
    theirs = (scene.boxes[:, 2:] - scene.boxes[:, :2]).prod(axis=1)
    iou = shared / (areas[:, None] + theirs - shared)
    hit = ((iou >= MATCHING_IOU) & (found.labels[:, None] == scene.labels)).any(axis=1)
    return int(np.count_nonzero(sure & ~hit))


def rows(given: argparse.Namespace, detector: Detector) -> list[dict[str, object]]:
    """A row a way, ready for JSON."""
    asked = ways(given.tiles, given.overlap)
    scenes = [draw_large_scene(HELD_OUT_SEED, index) for index in range(given.count)]
    warm_up = [Way(way.tile, way.tiling) for way in asked]
    ask(detector, Image(scenes[0].pixels, "PNG"), warm_up)
    for scene in scenes:
        ask(detector, Image(scene.pixels, "PNG"), asked)
    truths = [scene_truth(scene) for scene in scenes]
    base = median(asked[0].seconds)
    return [
        {
            "tile": way.tile,
            "jobs": 1 + way.tiles,
            **evaluate(truths, way.answers, detector.card.labels),
            "false": sum(
                false_alarms(scene, found, detector.card.score_threshold)
                for scene, found in zip(scenes, way.answers, strict=True)
            ),
            "seconds": median(way.seconds),
            "ratio": median(way.seconds) / base,
        }
        for way in asked
    ]


def main() -> None:
    """Print a row a way to ask."""
    parser = command_line(__doc__)
    parser.add_argument("--model", default="shapes", help="a model's name or the path of its card")
    parser.add_argument("--count", type=int, default=20, help="images")
    parser.add_argument("--tiles", nargs="*", default=["auto", "480", "640"], help="auto, or a side in px")
    parser.add_argument("--overlap", type=float, default=OVERLAP, help="share of a tile's side")
    given = parser.parse_args()
    spec = DetectorSpec(model=given.model, cache_dir=Path("~/.cache/rcnn-serve").expanduser())
    detector = load_detector(spec)
    machine = describe_machine()
    found = rows(given, detector)
    heading = f"{given.count} scenes, {detector.card.name} on {detector.engine_name}; {title(machine)}"
    shown = Table("tile", "jobs", *SHOWN, "false", "s", "ratio", title=heading)
    for row in found:
        numbers = [f"{row[name]:.3f}" for name in SHOWN]
        cells = [str(row["tile"]), str(row["jobs"]), *numbers, str(row["false"])]
        shown.add_row(*cells, f"{row['seconds']:.3f}", f"{row['ratio']:.1f}")
    Console(width=150).print(shown)
    write_json(given.json, {"machine": machine, "spec": asdict(spec) | {"cache_dir": None}, "rows": found})


if __name__ == "__main__":
    main()

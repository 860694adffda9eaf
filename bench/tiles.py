"""What tiles gain on small objects and what they cost: `python -m bench.tiles`.

Drawn scenes of 2000 x 1500 px, four in five shapes 12 to 40 px large, the others 100 to 700; AP from a score
of 0.05 on, at most 100 detections an image, as `rcnn evaluate` counts. "False" are detections above the
card's threshold that match no object of their class. The time is from decoded image to detections, median of
the images; every tile size takes its turn on each image.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from statistics import median
from typing import Any

import numpy as np

from bench.harness.machine import describe_machine, title
from bench.harness.measuring import interleaved
from bench.harness.options import Columns, command_line, print_table, write_json
from bench.peers.model import load
from models.detections import Detections
from models.detector import Detector
from models.evaluation.coco import evaluate
from models.evaluation.curves import overlaps
from models.evaluation.predictions import FLOOR, MOST_DETECTIONS
from models.images.decoder import Image
from models.options import Options
from models.shapes.evaluate import HELD_OUT_SEED, scene_truth
from models.shapes.scenes import Scene, draw_large_scene
from models.tiling.tiled_detect import detect_tiled, tiles_for
from models.tiling.tiles import LARGEST_SIDE, OVERLAP, Tiling

MAX_TILES = 1024
WHOLE = "none"
MATCHING_IOU = 0.5
COLUMNS: Columns = {
    "tile": "{tile}",
    "jobs": "{jobs}",
    **{name: f"{{{name}:.3f}}" for name in ("AP", "AP50", "AP_small", "AP_medium", "AP_large")},
    "false": "{false}",
    "s": "{seconds:.3f}",
    "ratio": "{ratio:.1f}",
}


@dataclass(frozen=True, eq=False)
class Measurement:
    """One scene with one tile size."""

    seconds: float
    tiles: int
    detections: Detections


def tilings(tiles: Sequence[str], overlap: float) -> dict[str, Tiling]:
    """By name: the whole image first, then each side of a tile: "auto" or px."""
    sides = {WHOLE: LARGEST_SIDE, "auto": None}
    names = dict.fromkeys([WHOLE, *tiles])
    return {name: Tiling(sides[name] if name in sides else int(name), overlap, MAX_TILES) for name in names}


def measure(detector: Detector, tiling: Tiling, scene: Scene) -> Measurement:
    """Detect in the scene once."""
    options = Options(FLOOR, detector.card.nms_threshold, MOST_DETECTIONS)
    image = Image(scene.pixels, "PNG")
    started = time.perf_counter()
    detections = detect_tiled(detector, image, options, tiling)
    return Measurement(time.perf_counter() - started, len(tiles_for(detector, image, tiling)), detections)


def false_positives(scene: Scene, detections: Detections, threshold: float) -> int:
    """Detections from the threshold on that overlap no object of their class."""
    iou = overlaps(detections.boxes, scene.boxes)
    hit = ((iou >= MATCHING_IOU) & (detections.labels[:, None] == scene.labels)).any(axis=1)
    return int(np.count_nonzero((detections.scores >= threshold) & ~hit))


def compare(arguments: argparse.Namespace, detector: Detector) -> list[dict[str, Any]]:
    """A row a tile size, ready for JSON."""
    scenes = [draw_large_scene(HELD_OUT_SEED, index) for index in range(arguments.count)]
    named = tilings(arguments.tiles, arguments.overlap)
    variants = {name: partial(measure, detector, tiling) for name, tiling in named.items()}
    interleaved(variants, islice(scenes, 1))  # warm-up
    results = interleaved(variants, scenes)
    truths = [scene_truth(scene) for scene in scenes]
    seconds = {tile: median(one.seconds for one in measured) for tile, measured in results.items()}
    return [
        {
            "tile": tile,
            "jobs": 1 + measured[-1].tiles,
            **evaluate(truths, [one.detections for one in measured], detector.card.labels),
            "false": sum(
                false_positives(scene, one.detections, detector.card.score_threshold)
                for scene, one in zip(scenes, measured, strict=True)
            ),
            "seconds": seconds[tile],
            "ratio": seconds[tile] / seconds[WHOLE],
        }
        for tile, measured in results.items()
    ]


def main() -> None:
    """Print a row a tile size."""
    parser = command_line(__doc__)
    parser.add_argument("--model", default="shapes", help="name or path of a card")
    parser.add_argument("--count", type=int, default=20, help="images")
    parser.add_argument("--tiles", nargs="*", default=["auto", "480", "640"], help="auto, or a side in px")
    parser.add_argument("--overlap", type=float, default=OVERLAP, help="share of a tile's side")
    arguments, machine = parser.parse_args(), describe_machine()
    detector = load(arguments.model)
    rows = compare(arguments, detector)
    scenes = f"{arguments.count} scenes, {detector.card.name} on {detector.engine_name}"
    print_table(f"{scenes}; {title(machine)}", COLUMNS, rows)
    write_json(arguments.json, machine, model=arguments.model, rows=rows)


if __name__ == "__main__":
    main()

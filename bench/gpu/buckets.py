"""What the canvas sizes of a GPU cost: `python -m bench.gpu.buckets`.

On a GPU canvases are padded to few sizes (models.pipeline.buckets). AP on drawn scenes with and without that,
in fp32 on the CPU, how many scenes are padded further, and by how much their canvases grow.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bench.harness.machine import describe_machine, title
from bench.harness.options import Columns, command_line, print_table, write_json
from models.detections import Detections
from models.detector import Detector, DetectorSpec, Job, load_detector
from models.evaluation.coco import evaluate
from models.evaluation.predictions import FLOOR
from models.images.decoder import Image
from models.options import Options
from models.pipeline.buckets import bucket, padded_to
from models.pipeline.canvas import Canvas
from models.shapes.evaluate import HELD_OUT_SEED, scene_truth
from models.shapes.scenes import Scene, draw_scene

COLUMNS: Columns = {
    "canvases": "{canvases}",
    "AP": "{ap:.4f}",
    "AP50": "{ap50:.4f}",
    "sizes": "{sizes}",
    "pixels": "{pixels:.3f}",
}


def job_of(detector: Detector, scene: Scene, padded: bool) -> Job:
    """A scene's canvas, padded as on a GPU or as on the CPU."""
    canvas = detector.prepare(Image(scene.pixels, "PNG"))
    options = Options(FLOOR, detector.card.nms_threshold, detector.card.max_detections)
    if not padded:
        return Job(canvas, options)
    size = bucket(canvas.key, detector.card.canvas_limits())
    pixels = padded_to(canvas.make(torch.clone), size)
    return Job(Canvas(pixels, canvas.content, canvas.image_size), options)


def measure(detector: Detector, scenes: Sequence[Scene], padded: bool) -> dict[str, Any]:
    """A row of the table."""
    jobs = [job_of(detector, scene, padded) for scene in scenes]
    found: list[Detections] = [detector.detect([job])[0] for job in jobs]
    numbers = evaluate([scene_truth(scene) for scene in scenes], found, detector.card.labels)
    keys = [job.canvas.key for job in jobs]
    return {
        "canvases": "few sizes" if padded else "multiples of 32",
        "ap": numbers["AP"],
        "ap50": numbers["AP50"],
        "sizes": len(set(keys)),
        "area": sum(height * width for height, width in keys),
    }


def main() -> None:
    """Print the table."""
    arguments, machine = _arguments(), describe_machine()
    cache = Path(tempfile.gettempdir())
    detector = load_detector(DetectorSpec(arguments.model, cache, device="cpu", precision="fp32"))
    scenes = [draw_scene(HELD_OUT_SEED, index) for index in range(arguments.count)]
    rows = [measure(detector, scenes, padded) for padded in (False, True)]
    rows = [{**row, "pixels": row["area"] / rows[0]["area"]} for row in rows]
    print_table(title(machine), COLUMNS, rows)
    write_json(arguments.json, machine, rows=rows)


def _arguments() -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("--model", default="shapes", help="a model's name or the path of its card")
    parser.add_argument("--count", type=int, default=200, help="scenes")
    return parser.parse_args()


if __name__ == "__main__":
    main()

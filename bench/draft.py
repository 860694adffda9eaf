"""Large JPEGs decoded whole and as drafts, time and AP: `python -m bench.draft`.

Drawn scenes or annotated photographs (--data) are enlarged to --side pixels, given the noise of a camera's
sensor (--noise) and saved as JPEG. Each is decoded and resized in turns, whole and as drafts of at least
`margin` times its canvas (--margins; default: the service's own), and the model detects in all of them.
"""

import argparse
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from bench.harness.machine import describe_machine, title
from bench.harness.measuring import interleaved
from bench.harness.options import Columns, command_line, print_table, write_json
from bench.harness.pictures import QUALITY
from bench.peers.model import load
from models.datasets import read_dataset
from models.detections import Detections
from models.detector import Detector, Job
from models.evaluation.coco import GroundTruth, evaluate
from models.evaluation.labels import LabelMatch, match_labels
from models.evaluation.predictions import FLOOR, MOST_DETECTIONS
from models.images.decoder import Limits, decode
from models.images.jpeg_draft import DRAFT_MARGIN
from models.options import Options
from models.quantization.measure import count_matches
from models.shapes.evaluate import HELD_OUT_SEED, scene_truth
from models.shapes.scenes import LABELS, draw_scene

LIMITS = Limits(max_pixels=200_000_000)
WHOLE = 0.0  # the margin that stands for no draft
COLUMNS: Columns = {
    "margin": lambda row: row["margin"] or "-",
    "scales": lambda row: ", ".join(f"1/{one}" for one in row["scales"]) if row["margin"] else "whole",
    "decode, ms": "{decode_ms:.1f}",
    "resize, ms": "{resize_ms:.1f}",
    "ratio": "{ratio:.2f}",
    **{name: f"{{{name}:.4f}}" for name in ("AP", "AP50", "agreement")},
}


@dataclass(frozen=True, eq=False)
class Photograph:
    """A large JPEG and what is on it."""

    data: bytes
    truth: GroundTruth


@dataclass(frozen=True, eq=False)
class Measurement:
    """One photograph decoded with one margin: milliseconds, draft scale, detections; its truth and bytes."""

    decode_ms: float
    resize_ms: float
    scale: int
    detections: Detections
    truth: GroundTruth
    nbytes: int


def enlarged(
    pixels: npt.NDArray[np.uint8], truth: GroundTruth, side: int, noise: float, seed: int
) -> Photograph:
    """The image with a long side of `side` px, noise of `noise` levels, and its boxes scaled with it."""
    scale = side / max(truth.width, truth.height)
    width, height = round(truth.width * scale), round(truth.height * scale)
    large = PillowImage.fromarray(pixels).resize((width, height), PillowImage.Resampling.LANCZOS)
    if noise:
        grain = np.random.default_rng(seed).normal(0, noise, (height, width, 3))
        large = PillowImage.fromarray((np.asarray(large) + grain).round().clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    large.save(file, "JPEG", quality=QUALITY)
    ratio = np.array([width / truth.width, height / truth.height] * 2, np.float32)
    moved = GroundTruth(width, height, truth.boxes * ratio, truth.labels, truth.crowd)
    return Photograph(file.getvalue(), moved)


def scenes(count: int, side: int, noise: float) -> Iterator[Photograph]:
    """The scenes that `shapes` is evaluated on."""
    for index in range(count):
        scene = draw_scene(HELD_OUT_SEED, index)
        yield enlarged(scene.pixels, scene_truth(scene), side, noise, index)


def measure(detector: Detector, match: LabelMatch, margin: float, photograph: Photograph) -> Measurement:
    """Decode, resize and detect."""
    limits = None
    if margin != WHOLE:  # the decoder applies its own margin to these limits
        short, long = (round(side * margin / DRAFT_MARGIN) for side in detector.card.canvas_limits())
        limits = short, long
    started = time.perf_counter()
    image = decode(photograph.data, LIMITS, limits)
    decoded = time.perf_counter()
    canvas = detector.prepare(image)
    resized = time.perf_counter()
    options = Options(FLOOR, detector.card.nms_threshold, MOST_DETECTIONS, match.known)
    detections = match.translate(detector.detect([Job(canvas, options)])[0])
    scale = image.draft.scale if image.draft else 1
    times = 1000 * (decoded - started), 1000 * (resized - decoded)
    return Measurement(*times, scale, detections, photograph.truth, len(photograph.data))


def compare(
    photographs: Iterator[Photograph], labels: Sequence[str], detector: Detector, margins: Sequence[float]
) -> list[dict[str, Any]]:
    """A row a margin, ready for JSON; the first decodes whole images."""
    match = match_labels(labels, detector.card.labels)
    variants = {margin: partial(measure, detector, match, margin) for margin in (WHOLE, *margins)}
    measured = interleaved(variants, photographs)
    threshold = detector.card.score_threshold
    base = [_above(one.detections, threshold) for one in measured[WHOLE]]
    rows: list[dict[str, Any]] = []
    for margin, each in measured.items():
        scores = evaluate([one.truth for one in each], [one.detections for one in each], tuple(labels))
        kept = [_above(one.detections, threshold) for one in each]
        twins = sum(count_matches(one, other) for one, other in zip(base, kept, strict=True))
        row: dict[str, Any] = {
            "margin": margin,
            "images": len(each),
            "megabytes": mean(one.nbytes for one in each) / 1e6,
            "scales": sorted({one.scale for one in each}),
            "decode_ms": median(one.decode_ms for one in each),
            "resize_ms": median(one.resize_ms for one in each),
            "AP": scores["AP"],
            "AP50": scores["AP50"],
            "agreement": 2 * twins / max(1, sum(map(len, base)) + sum(map(len, kept))),
        }
        first = rows[0] if rows else row
        seconds = [one["decode_ms"] + one["resize_ms"] for one in (first, row)]
        rows.append(row | {"ratio": seconds[0] / seconds[1]})
    return rows


def _above(detections: Detections, threshold: float) -> Detections:
    kept = detections.scores > threshold
    return Detections(detections.boxes[kept], detections.labels[kept], detections.scores[kept])


def _arguments() -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("--model", default="shapes", help="name or path of a card")
    parser.add_argument("--count", type=int, default=200, help="scenes, or the most photographs")
    parser.add_argument("--data", type=Path, help="a dataset of the model's classes; default: drawn scenes")
    parser.add_argument("--split", help="of the dataset")
    parser.add_argument("--side", type=int, default=4000, help="long side of the JPEGs, px")
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation, of 255 levels")
    parser.add_argument("--margins", type=float, nargs="*", default=[DRAFT_MARGIN])
    return parser.parse_args()


def _photographs(arguments: argparse.Namespace) -> tuple[Iterator[Photograph], Sequence[str]]:
    side, noise = arguments.side, arguments.noise
    if arguments.data is None:
        return scenes(arguments.count, side, noise), LABELS
    data = read_dataset(arguments.data, arguments.split)
    photographs = (
        enlarged(
            decode(one.path.read_bytes(), LIMITS).pixels,
            GroundTruth.of(one),
            side,
            noise,
            index,
        )
        for index, one in enumerate(data.images[: arguments.count])
    )
    return photographs, data.labels


def main() -> None:
    """Print a row for the whole images and one a margin."""
    arguments, machine = _arguments(), describe_machine()
    detector = load(arguments.model)
    rows = compare(*_photographs(arguments), detector, arguments.margins)
    images = f"{rows[0]['images']} JPEGs of {rows[0]['megabytes']:.1f} MB"
    print_table(f"{arguments.model}, {images}; {title(machine)}", COLUMNS, rows)
    write_json(arguments.json, machine, model=arguments.model, noise=arguments.noise, rows=rows)


if __name__ == "__main__":
    main()

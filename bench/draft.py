"""Large JPEGs decoded whole and as drafts: time and AP of both: `python -m bench.draft`.

Drawn scenes or annotated photographs (--data) are enlarged to --side pixels, given the noise of a camera's
sensor (--noise) and saved as JPEG. Each is decoded and resized in turns, whole and as a draft of at least so
many times its canvas (--margins; the service's own margin is the default), and the model looks at all.
"""

import argparse
import io
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from rich.console import Console
from rich.table import Table

from bench.harness.machine import describe_machine, title
from bench.harness.options import command_line, write_json
from models.datasets import read_dataset
from models.detections import Detections
from models.detector import Detector, DetectorSpec, Job, load_detector
from models.evaluation.answers import FLOOR, MOST_DETECTIONS
from models.evaluation.coco import GroundTruth, evaluate
from models.evaluation.labels import LabelMatch, match_labels
from models.images.decoder import Limits, decode
from models.images.jpeg_draft import DRAFT_MARGIN
from models.options import Options
from models.quantization.measure import count_matches
from models.shapes.evaluate import HELD_OUT_SEED, scene_truth
from models.shapes.scenes import LABELS, draw_scene
from models.zoo.cards import Card

LIMITS = Limits(max_pixels=200_000_000)
QUALITY = 90
WHOLE = 0.0  # the margin that stands for no draft


@dataclass(frozen=True, eq=False)
class Photograph:
    """A large JPEG and what is on it."""

    data: bytes
    truth: GroundTruth


@dataclass(frozen=True, eq=False)
class Road:
    """One way to decode; what it took and found, image by image."""

    margin: float
    scales: list[int] = field(default_factory=list)
    decoding: list[float] = field(default_factory=list)  # seconds
    resizing: list[float] = field(default_factory=list)
    found: list[Detections] = field(default_factory=list)

    def canvas_limits(self, card: Card) -> tuple[int, int] | None:
        """What the decoder is told: with its own margin it makes drafts of this one's."""
        if self.margin == WHOLE:
            return None
        short, long = (round(side * self.margin / DRAFT_MARGIN) for side in card.canvas_limits())
        return short, long

    @property
    def milliseconds(self) -> tuple[float, float]:
        """Medians: to decode, to resize."""
        return statistics.median(self.decoding) * 1000, statistics.median(self.resizing) * 1000

    def take(self, data: bytes, detector: Detector, match: LabelMatch) -> None:
        """Decode, resize and detect one image."""
        started = time.perf_counter()
        image = decode(data, LIMITS, self.canvas_limits(detector.card))
        decoded = time.perf_counter()
        canvas = detector.prepare(image)
        self.resizing.append(time.perf_counter() - decoded)
        self.decoding.append(decoded - started)
        self.scales.append(image.draft.scale if image.draft else 1)
        options = Options(FLOOR, detector.card.nms_threshold, MOST_DETECTIONS, match.known)
        self.found.append(match.translate(detector.detect([Job(canvas, options)])[0]))

    def sure(self, threshold: float) -> list[Detections]:
        """What it found above a score."""
        kept = [one.scores > threshold for one in self.found]
        rows = zip(self.found, kept, strict=True)
        return [Detections(one.boxes[rows], one.labels[rows], one.scores[rows]) for one, rows in rows]


def enlarged(pixels: np.ndarray, truth: GroundTruth, side: int, noise: float, seed: int) -> Photograph:
    """The image with a long side of `side` px, its noise of `noise` levels, and its boxes moved with it."""
    scale = side / max(truth.width, truth.height)
    width, height = round(truth.width * scale), round(truth.height * scale)
    large = PillowImage.fromarray(pixels).resize((width, height), PillowImage.Resampling.LANCZOS)
    if noise:
        grain = np.random.default_rng(seed).normal(0, noise, (height, width, 3))
        large = PillowImage.fromarray((np.asarray(large) + grain).round().clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    large.save(file, "JPEG", quality=QUALITY)
    ratio = np.array([width / truth.width, height / truth.height] * 2, np.float32)
    return Photograph(
        file.getvalue(), GroundTruth(width, height, truth.boxes * ratio, truth.labels, truth.crowd)
    )


def scenes(count: int, side: int, noise: float) -> Iterator[Photograph]:
    """The scenes that `shapes` is evaluated on."""
    for index in range(count):
        scene = draw_scene(HELD_OUT_SEED, index)
        yield enlarged(scene.pixels, scene_truth(scene), side, noise, index)


def compare(
    photographs: Iterator[Photograph], labels: Sequence[str], detector: Detector, margins: Sequence[float]
) -> list[dict[str, object]]:
    """A row a road, ready for JSON; the first decodes everything."""
    match = match_labels(labels, detector.card.labels)
    roads = [Road(margin) for margin in (WHOLE, *margins)]
    truths, sizes = [], []
    for photograph in photographs:
        truths.append(photograph.truth)
        sizes.append(len(photograph.data))
        for road in roads:
            road.take(photograph.data, detector, match)
    whole = roads[0].sure(detector.card.score_threshold)
    rows = []
    for road in roads:
        numbers = evaluate(truths, road.found, tuple(labels))
        sure = road.sure(detector.card.score_threshold)
        twins = sum(count_matches(one, other) for one, other in zip(whole, sure, strict=True))
        decoding, resizing = road.milliseconds
        rows.append(
            {
                "margin": road.margin,
                "images": len(truths),
                "megabytes": statistics.mean(sizes) / 1e6,
                "scales": sorted(set(road.scales)),
                "decode_ms": decoding,
                "resize_ms": resizing,
                "ratio": sum(roads[0].milliseconds) / (decoding + resizing),
                "AP": numbers["AP"],
                "AP50": numbers["AP50"],
                "agreement": 2 * twins / max(1, sum(map(len, whole)) + sum(map(len, sure))),
            }
        )
    return rows


def _given() -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("--model", default="shapes", help="a model's name or the path of its card")
    parser.add_argument("--count", type=int, default=200, help="scenes, or most of the photographs")
    parser.add_argument("--data", type=Path, help="a dataset of the model's classes; without it drawn scenes")
    parser.add_argument("--split", help="of the dataset")
    parser.add_argument("--side", type=int, default=4000, help="long side of the JPEGs, px")
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation, of 255 levels")
    parser.add_argument("--margins", type=float, nargs="*", default=[DRAFT_MARGIN])
    return parser.parse_args()


def _photographs(given: argparse.Namespace) -> tuple[Iterator[Photograph], Sequence[str]]:
    if given.data is None:
        return scenes(given.count, given.side, given.noise), LABELS
    data = read_dataset(given.data, given.split)
    photographs = (
        enlarged(
            decode(one.path.read_bytes(), LIMITS).pixels,
            GroundTruth.of(one),
            given.side,
            given.noise,
            index,
        )
        for index, one in enumerate(data.images[: given.count])
    )
    return photographs, data.labels


def main() -> None:
    """Print a row for the whole and one a margin."""
    given = _given()
    machine = describe_machine()
    detector = load_detector(DetectorSpec(given.model, Path("~/.cache/rcnn-serve").expanduser()))
    rows = compare(*_photographs(given), detector, given.margins)
    heading = f"{given.model}, {rows[0]['images']} JPEGs of {rows[0]['megabytes']:.1f} MB; {title(machine)}"
    shown = Table(
        "margin", "scales", "decode, ms", "resize, ms", "ratio", "AP", "AP50", "agreement", title=heading
    )
    for row in rows:
        scales = ", ".join(f"1/{scale}" for scale in row["scales"]) if row["margin"] else "whole"
        times = [f"{row[name]:.1f}" for name in ("decode_ms", "resize_ms")]
        shares = [f"{row[name]:.4f}" for name in ("AP", "AP50", "agreement")]
        shown.add_row(f"{row['margin'] or '-'}", scales, *times, f"{row['ratio']:.2f}", *shares)
    Console(width=130).print(shown)
    write_json(given.json, {"machine": machine, "model": given.model, "noise": given.noise, "rows": rows})


if __name__ == "__main__":
    main()

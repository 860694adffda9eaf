"""An imported model against the library that made it, over HTTP: `python -m bench.parity FOLDER…`.

A FOLDER has a checkpoint (or several, as model_final.pth and model_final.pkl), detectron2's config.yaml,
images/, and the library's own answers in expected.json: {file: {"boxes": xyxy px, "scores", "classes": from
0}}. Each checkpoint is imported as by `rcnn import`, served by `rcnn serve` in fp32 on a CPU, and gets each
image as a file. A detection of the library matches one of ours of the same class: of images named exact-*,
which the model does not resize, within 0.05 px and 0.001, of others within 1 px and 0.02. Of those without a
match it prints the nearest of ours. The exit code is 1 if fewer than 98 % (exact-*) or 97 % match.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from bench.harness.machine import describe_machine, title
from bench.harness.options import Columns, add_threads, command_line, print_table, write_json
from bench.harness.service import serving
from models.images.decoder import Limits, decode
from models.importing.run import ImportSpec, import_checkpoint
from models.zoo.cards import Card

CHECKPOINTS = ("*.pth", "*.pkl", "*.ckpt", "*.pt")
EXACT = "exact"
TIMEOUT = 300.0  # of a request, s
MAX_PIXELS = 100_000_000
COLUMNS: Columns = {
    "checkpoint": "{checkpoint}",
    "image": "{image}",
    "library": "{expected}",
    "ours": "{found}",
    "matched": "{matched}",
    "0.05 px, 0.001": "{strict}",
    "worst px": "{worst_px:.4f}",
    "worst score": "{worst_score:.5f}",
}


@dataclass(frozen=True)
class Tolerance:
    """How far a pair may differ, and the share of detections that must match."""

    px: float
    score: float
    share: float


STRICT = Tolerance(0.05, 1e-3, 0.98)
RESIZED = Tolerance(1.0, 0.02, 0.97)


@dataclass(frozen=True, eq=False)
class Found:
    """Detections in one image: boxes (N, 4) xyxy px, scores (N,), classes (N,) from 0."""

    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64]

    @classmethod
    def of(cls, answer: dict[str, Any], classes: list[int]) -> "Found":
        """An answer with "boxes" and "scores"."""
        boxes = np.array(answer["boxes"], np.float64).reshape(-1, 4)
        return cls(boxes, np.array(answer["scores"], np.float64), np.array(classes, np.int64))

    def __len__(self) -> int:
        return len(self.boxes)


def match(expected: Found, found: Found, tolerance: Tolerance) -> list[int]:
    """For each expected detection the index of its own among those found, -1 without one."""
    free, matches = np.ones(len(found), bool), []
    for index in range(len(expected)):
        px, score = distances(expected, index, found)
        near = free & (px <= tolerance.px) & (score <= tolerance.score)
        best = int(np.where(near, px, np.inf).argmin()) if near.any() else -1
        if best >= 0:
            free[best] = False
        matches.append(best)
    return matches


def distances(
    expected: Found, index: int, found: Found
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Of one expected detection to all found: px (infinite in other classes) and score."""
    px = np.abs(found.boxes - expected.boxes[index]).max(1)
    same = found.classes == expected.classes[index]
    return np.where(same, px, np.inf), np.abs(found.scores - expected.scores[index])


def compare(expected: Found, found: Found, tolerance: Tolerance) -> dict[str, Any]:
    """The row of one image; "differing": a line for each expected detection without a match."""
    matches = match(expected, found, tolerance)
    pairs = [(index, other) for index, other in enumerate(matches) if other >= 0]
    gaps = [[gap[other] for gap in distances(expected, index, found)] for index, other in pairs]
    worst_px, worst_score = np.max(gaps, axis=0) if gaps else (0.0, 0.0)
    most = max(len(expected), len(found))
    return {
        "expected": len(expected),
        "found": len(found),
        "matched": len(pairs),
        "strict": sum(other >= 0 for other in match(expected, found, STRICT)),
        "worst_px": float(worst_px),
        "worst_score": float(worst_score),
        "passes": len(pairs) >= tolerance.share * most,
        "differing": [_nearest(expected, index, found) for index, other in enumerate(matches) if other < 0],
    }


def _nearest(expected: Found, index: int, found: Found) -> str:
    name = f"class {expected.classes[index]}, {expected.scores[index]:.4f}, {expected.boxes[index].round(1)}"
    px, score = distances(expected, index, found)
    if not np.isfinite(px).any():
        return f"{name}: nothing of this class"
    near = int(px.argmin())
    return f"{name}: the nearest of ours is {px[near]:.4f} px and {score[near]:.5f} away"


def imported(checkpoint: Path, out: Path) -> Card:
    """The card that `rcnn import` writes."""
    config = checkpoint.parent / "config.yaml"
    first = min((checkpoint.parent / "images").iterdir())
    picture = decode(first.read_bytes(), Limits(MAX_PIXELS))
    spec = ImportSpec(checkpoint, out, config if config.is_file() else None, name="imported")
    return import_checkpoint(spec, picture).card


def rows_of(checkpoint: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Import and serve a checkpoint, and compare its answers to all images."""
    folder = checkpoint.parent
    answers = json.loads((folder / "expected.json").read_text())
    with tempfile.TemporaryDirectory() as out:
        card = imported(checkpoint, Path(out))
        source = (card.training or {}).get("imported_from")
        # torchvision has its threshold in the network object, not in the checkpoint.
        query = {"score_threshold": arguments.score_threshold} if source == "torchvision" else {}
        settings: dict[str, Any] = {"model": card.path, "device": "cpu", "precision": "fp32"}
        settings |= {"cache_dir": out, "inference_threads": arguments.threads}
        settings |= {"timeout_ms": int(1000 * TIMEOUT)}  # C4 on one thread takes half a minute an image
        with serving(**settings) as (target, _):
            for name in sorted(answers):
                url = f"http://127.0.0.1:{target.port}/detect"
                body = (folder / "images" / name).read_bytes()
                response = httpx.post(url, params=query, files={"image": body}, timeout=TIMEOUT)
                response.raise_for_status()
                answer = response.json()
                found = Found.of(answer, [label - 1 for label in answer["labels"]])
                expected = Found.of(answers[name], answers[name]["classes"])
                tolerance = STRICT if name.startswith(EXACT) else RESIZED
                where = {"checkpoint": f"{folder.name}/{checkpoint.name}", "image": Path(name).stem}
                yield {**where, **compare(expected, found, tolerance)}


def checkpoints(folders: list[Path]) -> list[Path]:
    """The checkpoints in the folders; raises SystemExit where one has none, or no answers."""
    found = []
    for folder in folders:
        here = sorted(path for pattern in CHECKPOINTS for path in folder.glob(pattern))
        if not here or not (folder / "expected.json").is_file():
            raise SystemExit(
                f"{folder} has no checkpoint or no expected.json; see python -m bench.parity --help"
            )
        found += here
    return found


def main() -> None:
    """Compare every checkpoint, print the table and what differs; exit with 1 if too few match."""
    parser = command_line(__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    threshold = "of checkpoints that do not have it (torchvision's); default: 0.3"
    parser.add_argument("--score-threshold", type=float, default=0.3, help=threshold)
    add_threads(parser)
    arguments = parser.parse_args()
    rows, machine = [], describe_machine()
    for checkpoint in checkpoints(arguments.folders):
        rows += list(rows_of(checkpoint, arguments))
        write_json(arguments.json, machine, rows=rows)
        print(f"{checkpoint}: done", file=sys.stderr)
    print_table(f"Parity over HTTP, fp32: {title(machine)}", COLUMNS, rows)
    for row in rows:
        for line in row["differing"]:
            print(f"{row['checkpoint']} {row['image']}: {line}")
    if not all(row["passes"] for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()

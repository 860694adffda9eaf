"""Draws the scenes in `app/samples/` with their ground truth: `python -m models.shapes.samples`."""

import argparse
import json
from pathlib import Path

from PIL import Image as PillowImage

from models.shapes.scenes import LABELS, Scene, draw_scene

SEED = 3  # neither the training's nor the evaluation's
CHOSEN = (58, 20, 53)


def main() -> None:
    """Write each scene as JPEG and its boxes as JSON beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("app/samples"))
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for number, index in enumerate(CHOSEN, start=1):
        write(draw_scene(SEED, index), out / f"shapes-{number}.jpg")


def write(scene: Scene, path: Path) -> None:
    """Write the scene as a JPEG, and its truth as JSON with the keys of a response of POST /detect."""
    PillowImage.fromarray(scene.pixels).save(path, quality=92)
    height, width = scene.pixels.shape[:2]
    truth = {
        "image": {"width": width, "height": height},
        "boxes": scene.boxes.tolist(),
        "labels": scene.labels.tolist(),
        "names": [LABELS[label] for label in scene.labels],
    }
    path.with_suffix(".json").write_text(json.dumps(truth, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Training of the bundled model: `python -m models.shapes.train --out runs/shapes`."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from torchvision.models.detection import FasterRCNN

from models.detector import DetectorSpec, load_detector
from models.networks import build_network
from models.shapes.batches import SceneBatches
from models.shapes.evaluate import HELD_OUT_SEED, evaluate_scenes
from models.shapes.scenes import LABELS
from models.training.alternating import train_alternating
from models.training.batches import series_loader
from models.training.optimizer import TrainingConfig
from models.training.train import Callbacks, train
from models.zoo.weights import save_weights

CONFIG = TrainingConfig(steps=2600, bfloat16=True)
ARCHITECTURE = "small"
EVALUATED = 200  # held-out scenes behind the card's AP

CARD = """\
# Trained by this project on drawn scenes, so that everything works offline.
name = "shapes"
architecture = "{architecture}"
weights = "file:shapes.safetensors"
sha256 = "{sha256}"
labels = [{labels}]
score_threshold = 0.5
nms_threshold = 0.5
max_detections = 100
min_size = 320
max_size = 576
"""
TRAINING = """
[training]
command = "python -m models.shapes.train"
data = "drawn scenes, seed {seed}, {steps} batches of {batch_size}"
evaluated_on = "{evaluated} drawn scenes, seed {held_out}"
ap = {AP:.4f}
ap50 = {AP50:.4f}
ap75 = {AP75:.4f}
"""


def main() -> None:
    """Train the bundled model from scratch; write its weights and its card with the AP measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/shapes"))
    parser.add_argument("--schedule", choices=("joint", "alternating"), default="joint")
    parser.add_argument("--steps", type=int, default=CONFIG.steps, help="of each of the four, if alternating")
    arguments = parser.parse_args()
    out: Path = arguments.out
    config = replace(CONFIG, steps=arguments.steps)
    card = write_model(
        _train(out, config, train if arguments.schedule == "joint" else train_alternating), out
    )
    detector = load_detector(DetectorSpec(model=str(card), cache_dir=out, device="cpu"))
    numbers = evaluate_scenes(detector, EVALUATED)
    with card.open("a") as file:
        file.write(
            TRAINING.format(
                seed=CONFIG.seed,
                steps=config.steps,
                batch_size=CONFIG.batch_size,
                evaluated=EVALUATED,
                held_out=HELD_OUT_SEED,
                **numbers,
            )
        )
    print(card.read_text())


def _train(out: Path, config: TrainingConfig, train_network: Callable[..., FasterRCNN]) -> FasterRCNN:
    torch.manual_seed(CONFIG.seed)
    network = build_network(ARCHITECTURE, len(LABELS))
    columns = (
        SpinnerColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task("steps", total=None, losses="")

        def show(step: int, losses: dict[str, float]) -> None:
            text = " ".join(f"{name.removeprefix('loss_')} {value:.3g}" for name, value in losses.items())
            bar.update(task, completed=step, losses=text)

        return train_network(
            network,
            lambda first: series_loader(SceneBatches(CONFIG.seed, CONFIG.batch_size, first)),
            config,
            out,
            Callbacks(show),
        )


def write_model(network: FasterRCNN, out: Path) -> Path:
    """Write `shapes.safetensors` (half precision) and its card; returns the card's path."""
    sha256 = save_weights(network, out / "shapes.safetensors", half=True)
    card = out / "shapes.toml"
    labels = ", ".join(f'"{name}"' for name in LABELS)
    card.write_text(CARD.format(architecture=ARCHITECTURE, sha256=sha256, labels=labels))
    return card


if __name__ == "__main__":
    main()

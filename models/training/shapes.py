"""The command that trained the bundled model: `python -m models.training.shapes --out runs/shapes`."""

import argparse
from pathlib import Path

import torch
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from models.networks import build_network
from models.training.data import scene_loader
from models.training.synthetic import LABELS
from models.training.train import TrainingConfig, train

CONFIG = TrainingConfig(steps=2600, bfloat16=True)
ARCHITECTURE = "small"


def main() -> None:
    """Train the bundled model from scratch and write the averaged weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/shapes"))
    out: Path = parser.parse_args().out
    torch.manual_seed(CONFIG.seed)
    network = build_network(ARCHITECTURE, len(LABELS))
    columns = (
        SpinnerColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task("steps", total=CONFIG.steps, losses="")

        def show(step: int, losses: dict[str, float]) -> None:
            text = " ".join(f"{name.removeprefix('loss_')} {value:.3g}" for name, value in losses.items())
            bar.update(task, completed=step, losses=text)

        average = train(
            network, lambda first: scene_loader(CONFIG.seed, CONFIG.batch_size, first), CONFIG, out, show
        )
    torch.save(average.state_dict(), out / "weights.pt")


if __name__ == "__main__":
    main()

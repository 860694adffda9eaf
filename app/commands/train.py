"""`rcnn train`: from a folder of annotated images to a folder with a model that `rcnn serve` takes."""

import shlex
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from app.commands import USAGE, CommandFailed
from app.commands.arguments import TrainArguments
from app.commands.shared.checks import require_extra
from app.commands.shared.console import read_settings
from app.commands.shared.dataset import data_options
from models.datasets import DataOptionError

if TYPE_CHECKING:
    from models.training.run import Recipe

WHOLE = "none"  # --val-split none: train on every image


def run(arguments: TrainArguments) -> int:
    """Train; print the model's card and how to serve it."""
    require_extra("train")
    from models.training.distributed import process_group
    from models.training.train import TrainingDiverged

    recipe = _recipe(arguments)
    try:
        with process_group() as process:
            console = Console(stderr=True, quiet=not process.is_first)
            card = _train(recipe, console)
    except KeyboardInterrupt as stop:
        text = f"stopped; the same command continues from the last checkpoint in {recipe.out}"
        raise CommandFailed(text, 130) from stop
    except DataOptionError as error:
        raise CommandFailed(error, USAGE) from error
    except (ValueError, OSError, TrainingDiverged) as error:  # data, card, weights, options: the text says it
        raise CommandFailed(error) from error
    if process.is_first:
        print(card)
    console.print(
        f"report: {card.parent / 'report.md'}\nserve:  RCNN_MODEL={card} rcnn serve", highlight=False
    )
    return 0


def _train(recipe: "Recipe", console: Console) -> Path:
    """Read the data, report its faults, train; the path of the card."""
    from models.training.run import read_data
    from models.training.run import run as train

    data = read_data(recipe)
    for split, report in data.reports.items():
        console.print(f"[bold]{split}[/bold]\n{report.summary()}", highlight=False)
    command = shlex.join(["rcnn", *sys.argv[1:]])
    with _Bar(console) as bar:
        return train(recipe, data, command, bar.show)


def _recipe(arguments: TrainArguments) -> "Recipe":
    from models.training.augment import Augmentation
    from models.training.run import Recipe

    _check(arguments)
    sizes = arguments.min_size, arguments.max_size or round(arguments.min_size * 16 / 9)
    if sizes[1] < sizes[0]:
        raise CommandFailed(f"--max-size {sizes[1]} is below --min-size {sizes[0]}; make it larger", USAGE)
    change = Augmentation(
        flip=arguments.flip,
        turn=arguments.turn,
        zoom=(1 / arguments.zoom, arguments.zoom),
        colour=arguments.colour,
        mosaic=arguments.mosaic,
    )
    same: dict[str, Any] = {field.name: getattr(arguments, field.name, None) for field in fields(Recipe)}
    different = {
        "data": _data(arguments),
        "cache_dir": read_settings().cache_dir,
        "reading": replace(data_options(arguments), cache_dir=None),
        "train_split": _split(arguments.train_split),
        "val_split": _split(arguments.val_split),
        "max_size": sizes[1],
        "augmentation": change,
    }
    return Recipe(**(same | different))


def _data(arguments: TrainArguments) -> Path:
    if (arguments.data is None) == (arguments.data_option is None):
        raise CommandFailed("name the folder of images once: rcnn train DATA --out DIR", USAGE)
    return arguments.data or arguments.data_option or Path()


def _check(arguments: TrainArguments) -> None:
    """Raise CommandFailed for options that exclude one another."""
    if arguments.float16 and (arguments.bfloat16 or arguments.device == "cpu"):
        raise CommandFailed("--float16 is for a GPU, and without --bfloat16; leave one of them out", USAGE)
    if arguments.resume and not any(arguments.out.rglob("checkpoint.pt")):
        raise CommandFailed(
            f"--resume: {arguments.out} holds no checkpoint to continue from; name the folder of a "
            "stopped run, or leave --resume out to start one",
            USAGE,
        )


def _split(name: str) -> str | None:
    return None if name == WHOLE else name


class _Bar:
    """A progress bar with the losses, on a terminal only."""

    def __init__(self, console: Console) -> None:
        columns = (
            SpinnerColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        self._bar = Progress(*columns, console=console, disable=console.quiet or not console.is_terminal)
        self._task = self._bar.add_task("steps", total=None, text="")

    def __enter__(self) -> "_Bar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, step: int, steps: int, entry: dict[str, float]) -> None:
        """Show a finished step."""
        text = " ".join(f"{name.removeprefix('loss_')} {value:.3g}" for name, value in entry.items())
        self._bar.update(self._task, completed=step, total=steps, text=text)

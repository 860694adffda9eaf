"""`rcnn train`: from a folder of annotated images to a folder with a model that `rcnn serve` takes."""

import errno
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from app.commands import USAGE, CommandFailed
from app.commands.arguments import TrainArguments
from app.commands.shared.checks import require_extra
from app.commands.shared.console import read_settings
from app.commands.shared.dataset import data_options
from app.commands.shared.progress import download_bar
from app.commands.shared.recording import record_trained
from app.commands.shared.training_progress import show_progress
from app.settings.settings import Settings
from models.datasets import DataOptionError

if TYPE_CHECKING:
    from models.training.run import Data, Recipe, Trained

TENSORBOARD = "tensorboard"
LOGS = {"csv", TENSORBOARD}
WHOLE = "none"  # --val-split none: train on every image


def run(arguments: TrainArguments) -> int:
    """Train; print the model's card and how to serve it."""
    require_extra("train")
    if arguments.int8:
        require_extra("quantize")
    if TENSORBOARD in (arguments.log or ()):
        require_extra(TENSORBOARD)
    from models.training.distributed import process_group

    recipe = _recipe(arguments)
    with process_group() as process, _stop_on_sigterm(), _faults_as_text(recipe):
        console = Console(stderr=True, quiet=not process.is_first)
        data, trained = _train(recipe, console)
        if process.is_first:
            print(trained.card)
            settings = read_settings(model=str(trained.card), device=recipe.device)
            record_trained(settings, data, int8=arguments.int8, report=console.print)
    console.print(_summary(trained), highlight=False, soft_wrap=True)
    return 0


@contextmanager
def _faults_as_text(recipe: "Recipe") -> Iterator[None]:
    """Raises CommandFailed for what ends a run: 2 for wrong options, 1 for data, files and divergence."""
    from models.training.resume import OptionError
    from models.training.train import TrainingDiverged

    try:
        yield
    except KeyboardInterrupt as stop:
        raise CommandFailed(_stopped(recipe), 143 if isinstance(stop, _Terminated) else 130) from stop
    except (OptionError, DataOptionError) as error:
        raise CommandFailed(error, USAGE) from error
    except OSError as error:
        raise CommandFailed(_file_fault(recipe, error)) from error
    except (ValueError, TrainingDiverged) as error:  # data, weights, checkpoint: the text says it
        raise CommandFailed(error) from error


class _Terminated(KeyboardInterrupt):
    """SIGTERM: it ends a run as Ctrl-C does."""


@contextmanager
def _stop_on_sigterm() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stopped(recipe: "Recipe") -> str:
    model = recipe.out / "model.toml"
    if any(recipe.out.rglob("checkpoint.pt")):
        text = f"stopped; the same command continues from the last checkpoint in {recipe.out}"
    else:
        text = "stopped before the first checkpoint; the same command starts anew"
    return f"{text}\nthe best model so far: {model}" if model.exists() else text


def _file_fault(recipe: "Recipe", error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"no space is left on the disk of {recipe.out}; free some and repeat the command: it continues "
            "from the last checkpoint"
        )
    return f"{error.filename or recipe.out}: {error.strerror or error}"


def _summary(trained: "Trained") -> str:
    card, numbers = trained.card, trained.numbers
    ap = ", ".join(f"{name} {numbers[name]:.3f}" for name in ("AP", "AP50", "AP75") if name in numbers)
    return (
        f"{ap} on {trained.evaluated_on}\nreport: {card.parent / 'report.md'}\n"
        f"serve:  RCNN_MODEL={card} rcnn serve"
    )


def _train(recipe: "Recipe", console: Console) -> "tuple[Data, Trained]":
    """Read the data, report its faults, train."""
    from models.training.run import read_data
    from models.training.run import run as train
    from models.training.start import fetch_start
    from models.zoo.download import Downloads

    data = read_data(recipe)
    for split, report in data.reports.items():
        console.print(f"[bold]{split}[/bold]\n{escape(report.summary())}", highlight=False, soft_wrap=True)
    with download_bar() as observe:
        downloads = Downloads(recipe.weights_mirror, None if console.quiet else observe)
        fetch_start(replace(recipe.start_point, downloads=downloads), recipe.architecture)
    command = shlex.join(["rcnn", *sys.argv[1:]])
    with show_progress(console) as progress:
        return data, train(recipe, data, command, progress.show)


def _recipe(arguments: TrainArguments) -> "Recipe":
    from models.training.augment import Augmentation
    from models.training.run import Recipe, model_name

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
    settings = read_settings()
    architecture = arguments.architecture or _architecture(arguments.start, settings)
    same: dict[str, Any] = {field.name: getattr(arguments, field.name, None) for field in fields(Recipe)}
    different = {
        "data": _data(arguments),
        "cache_dir": settings.cache_dir,
        "model_dir": settings.model_dir,
        "weights_mirror": settings.weights_mirror,
        "architecture": architecture,
        "log": tuple(sorted(set(arguments.log or ()))),
        "reading": replace(data_options(arguments), cache_dir=None),
        "train_split": _split(arguments.train_split),
        "val_split": _split(arguments.val_split),
        "max_size": sizes[1],
        "augmentation": change,
    }
    recipe = Recipe(**(same | different))
    with _faults_as_text(recipe):
        model_name(recipe.out)
    return recipe


def _architecture(start: str, settings: Settings) -> str:
    """That of the model to start from; raises CommandFailed."""
    from models.training.resume import OptionError
    from models.training.start import StartPoint

    try:
        return StartPoint(start, settings.model_dir, settings.cache_dir).architecture
    except OptionError as error:
        raise CommandFailed(error, USAGE) from error


def _data(arguments: TrainArguments) -> Path:
    if (arguments.data is None) == (arguments.data_option is None):
        raise CommandFailed("name the folder of images once: rcnn train DATA --out DIR", USAGE)
    return arguments.data or arguments.data_option or Path()


def _check(arguments: TrainArguments) -> None:
    """Raise CommandFailed for options that exclude one another."""
    if arguments.float16 and (arguments.bfloat16 or arguments.device == "cpu"):
        raise CommandFailed("--float16 is for a GPU, and without --bfloat16; leave one of them out", USAGE)
    if unknown := set(arguments.log or ()) - LOGS:
        raise CommandFailed(f"--log {min(unknown)}: must be one of: {', '.join(sorted(LOGS))}", USAGE)
    if arguments.resume and not any(arguments.out.rglob("checkpoint.pt")):
        raise CommandFailed(
            f"--resume: {arguments.out} holds no checkpoint to continue from; name the folder of a "
            "stopped run, or leave --resume out to start one",
            USAGE,
        )


def _split(name: str) -> str | None:
    return None if name == WHOLE else name

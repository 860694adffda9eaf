"""A training run: from a folder of annotated images to a folder with a model, its card and a report."""

import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from torchvision.models.detection import FasterRCNN

from models.datasets import AnnotationReport, Dataset, DatasetError, Format, read_dataset
from models.engines import choose_device
from models.networks import build_network
from models.training.alternating import STEPS, train_alternating
from models.training.augment import Augmentation
from models.training.batches import BatchPlan, batches_per_epoch, folder_loader
from models.training.distributed import process_device, process_rank
from models.training.optimizer import OptimizerName, RateName, TrainingConfig
from models.training.report import write_report
from models.training.start import start_from, trained_norms
from models.training.train import Callbacks, train
from models.training.validation import assess_network, choose_thresholds
from models.zoo.card_text import card_text
from models.zoo.cards import Card
from models.zoo.weights import save_weights

ScheduleName = Literal["joint", "alternating"]
Progress = Callable[[int, int, dict[str, float]], None]  # step, steps, what was logged

PHASES: dict[ScheduleName, int] = {"joint": 1, "alternating": STEPS}  # each as long as `epochs` says
WARMUP_SHARE = 0.1
SCALES = 3  # sizes below the recipe's own, and as many above
AVERAGED_STEPS = 0.1  # of the run: the length of the moving average


@dataclass(frozen=True)
class Recipe:
    """The options of `rcnn train`; sizes in pixels. `val_split` None uses every image for training."""

    data: Path
    out: Path
    cache_dir: Path
    architecture: str = "small"
    start: str = "scratch"
    format: Format | None = None
    train_split: str | None = "train"
    val_split: str | None = "val"
    epochs: int = 40
    batch_size: int = 8
    learning_rate: float = 1e-3
    schedule: ScheduleName = "joint"
    optimizer: OptimizerName = "adamw"
    rate: RateName = "cosine"
    weight_decay: float = 1e-4
    clip_norm: float = 5.0
    min_size: int = 320
    max_size: int = 576
    seed: int = 1
    device: str = "auto"
    threads: int = 0  # 0: torch's own choice
    bfloat16: bool = False
    float16: bool = False
    free_norms: bool = False  # from scratch they are always trained
    scale: float = 1.0  # images are resized up to this factor smaller or larger
    whole: float = 0.0  # the last share of the run, without zoom and mosaic
    validate_every: int = 1  # epochs
    patience: int = 10
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True, eq=False)
class Data:
    """The images for training and for validation; val is None if all are used for training."""

    train: Dataset
    val: Dataset | None

    @property
    def reports(self) -> dict[str, AnnotationReport]:
        """The reports of faults by split."""
        return {"train": self.train.report} | ({"val": self.val.report} if self.val else {})


def read_data(recipe: Recipe) -> Data:
    """Read the splits that the recipe names; raises DatasetError."""
    train_set = read_dataset(recipe.data, recipe.train_split, recipe.format)
    if recipe.val_split is None:
        return Data(train_set, None)
    return Data(train_set, read_dataset(recipe.data, recipe.val_split, recipe.format, train_set.labels))


def run(recipe: Recipe, data: Data, command: str, progress: Progress) -> Path:
    """Train, or continue an interrupted run of the same recipe; returns the path of the written card.

    Of several processes (models/training/distributed.py) only the first writes files.
    """
    if process_rank().is_first:
        _save_recipe(recipe, data.train.labels)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    network = build_network(recipe.architecture, len(data.train.labels))
    start_from(recipe.start, network, recipe.architecture, recipe.cache_dir)
    network.transform.min_size, network.transform.max_size = sizes(recipe)
    network = network.to(choose_device(process_device(recipe.device)), memory_format=torch.channels_last)
    trained = _train(network, recipe, data, progress)
    return _finish(trained, recipe, data, command) if process_rank().is_first else recipe.out / "model.toml"


def sizes(recipe: Recipe) -> tuple[tuple[int, ...], int]:
    """The short sides to draw from during training, and the limit of the long side, px."""
    if recipe.scale == 1.0:
        return (recipe.min_size,), recipe.max_size
    factors = [recipe.scale ** (k / SCALES) for k in range(-SCALES, SCALES + 1)]
    return tuple(round(recipe.min_size * factor) for factor in factors), round(recipe.max_size * recipe.scale)


def _save_recipe(recipe: Recipe, labels: tuple[str, ...]) -> None:
    """Save the recipe in `out`; raises DatasetError if the folder has a run of another recipe."""
    recipe.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**asdict(recipe), "labels": labels}, indent=2, default=str) + "\n"
    saved = recipe.out / "recipe.json"
    if any(recipe.out.rglob("checkpoint.pt")) and saved.exists() and saved.read_text() != text:
        raise DatasetError(
            f"{recipe.out} holds a run with other options (see {saved.name}); continue it with those, "
            "or give another --out"
        )
    saved.write_text(text)


def _train(network: FasterRCNN, recipe: Recipe, data: Data, progress: Progress) -> FasterRCNN:
    per_epoch = batches_per_epoch(data.train.images, recipe.batch_size)
    config = _config(recipe, per_epoch)
    whole_from = round((1 - recipe.whole) * recipe.epochs) * per_epoch
    plan = BatchPlan(recipe.batch_size, recipe.seed, recipe.augmentation, whole_from, process_rank())
    card = make_card(recipe, data.train.labels)
    val = data.val

    def validate(average: FasterRCNN) -> float:
        return assess_network(average, card, val.images).numbers["AP"] if val else 0.0

    callbacks = Callbacks(
        progress=lambda step, entry: progress(step, config.steps * PHASES[recipe.schedule], entry),
        validate=validate if val else None,
        validate_every=recipe.validate_every * per_epoch,
        patience=recipe.patience,
    )
    train_network = train if recipe.schedule == "joint" else train_alternating
    return train_network(
        network, lambda first: folder_loader(data.train.images, plan, first), config, recipe.out, callbacks
    )


def _config(recipe: Recipe, per_epoch: int) -> TrainingConfig:
    steps = recipe.epochs * per_epoch
    shared = {one.name for one in fields(TrainingConfig)} & vars(recipe).keys()
    return TrainingConfig(
        **{name: getattr(recipe, name) for name in shared},
        steps=steps,
        warmup_steps=max(1, round(WARMUP_SHARE * steps)),
        ema_decay=max(0.0, 1 - 1 / max(1.0, AVERAGED_STEPS * steps)),
        frozen_norms=None if recipe.free_norms else trained_norms(recipe.start),
        checkpoint_every=per_epoch,
    )


def make_card(recipe: Recipe, labels: tuple[str, ...]) -> Card:
    """The card of the run's model with default thresholds; the weights will lie beside it."""
    return Card(
        name=recipe.out.name.lower().replace(" ", "-"),
        architecture=recipe.architecture,
        weights="file:weights.safetensors",
        labels=labels,
        min_size=recipe.min_size,
        max_size=recipe.max_size,
    )


def _finish(network: FasterRCNN, recipe: Recipe, data: Data, command: str) -> Path:
    """Write weights, card and report; returns the path of the card."""
    network = network.cpu()
    sha256 = save_weights(network, recipe.out / "weights.safetensors", half=True)
    validated = data.val or data.train
    card = make_card(recipe, validated.labels).model_copy(update={"sha256": sha256})
    card, assessment = choose_thresholds(network, card, validated.images)
    training = {
        "command": command,
        "seed": recipe.seed,
        "data": f"{len(data.train.images)} images, {data.train.report.objects} objects",
        "evaluated_on": recipe.val_split if data.val else "the training images themselves",
        "ap": round(assessment.numbers["AP"], 4),
        "ap50": round(assessment.numbers["AP50"], 4),
        "ap75": round(assessment.numbers["AP75"], 4),
        "python": platform.python_version(),
        "torch": version("torch"),
        "torchvision": version("torchvision"),
    }
    path = recipe.out / "model.toml"
    path.write_text(card_text(card.model_copy(update={"training": training})))
    write_report(recipe.out, card, training, assessment, data.reports, validated.images)
    return path

"""A training run: from a folder of annotated images to a folder with a model, its card and a report."""

import platform
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from torchvision.models.detection import FasterRCNN

from models.datasets import AnnotationReport, Dataset, Format, ReadOptions, read_training_data
from models.engines import choose_device
from models.networks import build_network
from models.training.alternating import STEPS, train_alternating
from models.training.augment import Augmentation
from models.training.batches import BatchPlan, batches_per_epoch, read_batches
from models.training.data_checks import require_learnable, require_measurable
from models.training.distributed import process_device, process_rank
from models.training.optimizer import OptimizerName, RateName, TrainingConfig
from models.training.report import write_report
from models.training.resume import OptionError, content_of, save_recipe, write_whole
from models.training.run_log import LogKind
from models.training.start import StartPoint, start_from
from models.training.train import Callbacks, train
from models.training.validation import MODEL, WEIGHTS, NewestModel, choose_thresholds
from models.zoo.card_text import card_text
from models.zoo.cards import AUTO, Card
from models.zoo.download import Downloads
from models.zoo.weights import save_weights

ScheduleName = Literal["joint", "alternating"]
Progress = Callable[[int, int, dict[str, float]], None]  # step, steps, what was logged

PHASES: dict[ScheduleName, int] = {"joint": 1, "alternating": STEPS}  # each as long as `epochs` says
WARMUP_SHARE = 0.1
LONGEST_NAME = 64  # of a card
SCALES = 3  # sizes below the recipe's own, and as many above
AVERAGED_STEPS = 0.1  # of the run: the length of the moving average


@dataclass(frozen=True)
class Recipe:
    """The options of `rcnn train`; sizes in pixels. `val_split` None uses every image for training."""

    data: Path
    out: Path
    cache_dir: Path
    model_dir: Path | None = None  # of cards beside the zoo's, for `start`
    weights_mirror: str | None = None  # of the weights to start from
    architecture: str = "small"
    start: str = "scratch"
    format: Format | None = None
    reading: ReadOptions = field(default_factory=ReadOptions)
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
    log: tuple[LogKind, ...] = ()  # beside metrics.jsonl

    @property
    def start_point(self) -> StartPoint:
        """The initial weights."""
        downloads = Downloads(self.weights_mirror)
        return StartPoint(self.start, self.model_dir, self.cache_dir, downloads)


@dataclass(frozen=True, eq=False)
class Data:
    """The images for training and for validation; val is None if all are used for training."""

    train: Dataset
    val: Dataset | None

    @property
    def reports(self) -> dict[str, AnnotationReport]:
        """The reports of faults by split; a note on both is in the first alone."""
        train = self.train.report
        if self.val is None:
            return {"train": train}
        notes = tuple(note for note in self.val.report.notes if note not in train.notes)
        return {"train": train, "val": replace(self.val.report, notes=notes)}


def read_data(recipe: Recipe) -> Data:
    """Read the splits that the recipe names, without damaged images.

    Raises DatasetError, also where there is nothing to learn from or to validate on.
    """
    splits = recipe.train_split, recipe.val_split
    options = replace(recipe.reading, cache_dir=recipe.cache_dir)  # not part of what a run is compared by
    train_set, val_set = read_training_data(recipe.data, splits, recipe.format, options)
    train_set = require_learnable(train_set, recipe.data, recipe.train_split, sizes(recipe)[1])
    if val_set is not None:
        val_set = require_measurable(val_set, recipe.data, recipe.val_split)
    return Data(train_set, val_set)


@dataclass(frozen=True)
class Trained:
    """The card of a finished run, the 12 COCO numbers of its model, and what these are over."""

    card: Path
    numbers: Mapping[str, float]
    evaluated_on: str


def run(recipe: Recipe, data: Data, command: str, progress: Progress) -> Trained:
    """Train, or continue a run of the same recipe, which may have fewer epochs.

    Of several processes (models/training/distributed.py) only the first writes files.
    """
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    network = _build(recipe, len(data.train.labels))
    if process_rank().is_first:  # from here on there are files
        content = {"train": content_of(data.train), "val": content_of(data.val)}
        save_recipe(recipe.out, {**asdict(recipe), "labels": data.train.labels, "content": content})
    trained = _train(network, recipe, data, command, progress)
    if not process_rank().is_first:
        return Trained(recipe.out / MODEL, {}, "")
    return _finish(trained, recipe, data, command)


def _build(recipe: Recipe, classes: int) -> FasterRCNN:
    """The network with its initial weights on its device; raises OptionError, or WeightsError for a file."""
    try:
        network = build_network(recipe.architecture, classes)
        device = choose_device(process_device(recipe.device))
    except ValueError as error:
        raise OptionError(error) from error
    start_from(recipe.start_point, network, recipe.architecture)
    network.transform.min_size, network.transform.max_size = sizes(recipe)
    return network.to(device, memory_format=torch.channels_last)


def sizes(recipe: Recipe) -> tuple[tuple[int, ...], int]:
    """The short sides to draw from during training, and the limit of the long side, px."""
    if recipe.scale == 1.0:
        return (recipe.min_size,), recipe.max_size
    factors = [recipe.scale ** (k / SCALES) for k in range(-SCALES, SCALES + 1)]
    return tuple(round(recipe.min_size * factor) for factor in factors), round(recipe.max_size * recipe.scale)


def _train(network: FasterRCNN, recipe: Recipe, data: Data, command: str, progress: Progress) -> FasterRCNN:
    per_epoch = batches_per_epoch(data.train.images, recipe.batch_size)
    config = _config(recipe, per_epoch)
    whole_from = round((1 - recipe.whole) * recipe.epochs) * per_epoch
    plan = BatchPlan(recipe.batch_size, recipe.seed, recipe.augmentation, whole_from, process_rank())
    steps = config.steps * PHASES[recipe.schedule]
    newest = NewestModel(recipe.out, make_card(recipe, data.train.labels), data.val, command, steps)
    callbacks = Callbacks(
        progress=lambda step, entry: progress(step, steps, entry),
        validate=newest.validate if data.val else None,
        validate_every=recipe.validate_every * per_epoch,
        patience=recipe.patience,
        keep=newest.keep,
        log=recipe.log,
    )
    train_network = train if recipe.schedule == "joint" else train_alternating
    return train_network(
        network, lambda first: read_batches(data.train.images, plan, first), config, recipe.out, callbacks
    )


def _config(recipe: Recipe, per_epoch: int) -> TrainingConfig:
    steps = recipe.epochs * per_epoch
    shared = {one.name for one in fields(TrainingConfig)} & vars(recipe).keys()
    return TrainingConfig(
        **{name: getattr(recipe, name) for name in shared},
        steps=steps,
        warmup_steps=max(1, round(WARMUP_SHARE * steps)),
        ema_decay=max(0.0, 1 - 1 / max(1.0, AVERAGED_STEPS * steps)),
        frozen_norms=None if recipe.free_norms else recipe.start_point.trained_norms,
        checkpoint_every=per_epoch,
    )


def model_name(out: Path) -> str:
    """The name of the model in a folder: the folder's, in the letters of names; raises OptionError."""
    plain = unicodedata.normalize("NFKD", out.resolve().name).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9_.-]+", "-", plain).strip("-_.")[:LONGEST_NAME]
    if not name or name == AUTO:
        raise OptionError(
            f"--out {out}: the model gets the folder's name, which needs letters of a to z or digits, and "
            f"is not {AUTO!r}; name another folder"
        )
    return name


def make_card(recipe: Recipe, labels: tuple[str, ...]) -> Card:
    """The card of the run's model with default thresholds; the weights will lie beside it."""
    return Card(
        name=model_name(recipe.out),
        architecture=recipe.architecture,
        weights=f"file:{WEIGHTS}",
        labels=labels,
        min_size=recipe.min_size,
        max_size=recipe.max_size,
    )


def _finish(network: FasterRCNN, recipe: Recipe, data: Data, command: str) -> Trained:
    """Write weights, card and report."""
    network = network.cpu()
    sha256 = save_weights(network, recipe.out / WEIGHTS, half=True)
    validated = data.val or data.train
    card = make_card(recipe, validated.labels).model_copy(update={"sha256": sha256})
    card, assessment, images = choose_thresholds(network, card, validated.images)
    evaluated_on = recipe.val_split if data.val else "the training images themselves"
    total = len(validated.images) + validated.report.counts.get("unreadable_image", 0)
    if total > len(images):
        evaluated_on = f"{evaluated_on}: {len(images)} of {total} images, as the others cannot be read"
    training = {
        "command": command,
        "seed": recipe.seed,
        "data": f"{len(data.train.images)} images, {data.train.report.objects} objects",
        "evaluated_on": evaluated_on,
        "ap": round(assessment.numbers["AP"], 4),
        "ap50": round(assessment.numbers["AP50"], 4),
        "ap75": round(assessment.numbers["AP75"], 4),
        "python": platform.python_version(),
        "torch": version("torch"),
        "torchvision": version("torchvision"),
    }
    path = recipe.out / MODEL
    write_whole(path, card_text(card.model_copy(update={"training": training})))
    write_report(recipe.out, card, training, assessment, data.reports, images)
    return Trained(path, assessment.numbers, str(evaluated_on))

"""The arguments of each command but `detect`. Every start of `rcnn` reads this file, so it imports little."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from app.commands.data_arguments import (
    Boxes,
    Classes,
    Data,
    Exif,
    Format,
    Rename,
    Split,
    ValFraction,
)

Model = Annotated[
    str | None, Option(help="Name of a model of the zoo, or path of a .toml card.", metavar="NAME|CARD")
]
Device = Annotated[str | None, Option(help="auto, cpu, cuda or cuda:N.")]
Json = Annotated[bool, Option("--json", help="JSON instead of a table.")]
OneJson = Annotated[bool, Option("--json", help="Everything as one JSON object instead of tables.")]


@dataclass(frozen=True)
class ServeArguments:
    """Each overrides the setting of its name."""

    host: Annotated[str | None, Option(help="Address to listen at; 0.0.0.0 for every one.")] = None
    port: Annotated[int | None, Option(help="TCP port to listen at.")] = None
    model: Model = None
    device: Device = None


@dataclass(frozen=True)
class EvaluateArguments:
    """The data, the model or service, and the output; model to precision override settings."""

    data: Data
    model: Model = None
    device: Device = None
    engine: Annotated[str | None, Option(help="auto, torch or openvino.")] = None
    precision: Annotated[str | None, Option(help="auto, fp32, fp16, bf16 or int8.")] = None
    url: Annotated[
        str | None, Option(help="Evaluate the model of the service at URL, through the service.")
    ] = None
    api_key: Annotated[str | None, Option(help="API key of the service; default: RCNN_API_KEY.")] = None
    split: Split = None
    format: Format = None
    boxes: Boxes = None
    exif: Exif = None
    classes: Classes = None
    rename: Rename = None
    val_fraction: ValFraction = 0.1
    json: OneJson = False
    tile: Annotated[
        str | None,
        Option(help="Cut large images into tiles of N of their pixels a side, or auto.", metavar="auto|N"),
    ] = None
    flip: Annotated[
        bool, Option("--flip", help="Detect in the mirror image too, and merge both: twice the time.")
    ] = False
    measure: Annotated[
        Literal["coco", "voc"],
        Option(help="coco; or voc: also VOC's mAP at IoU 0.5, over all points and over 11."),
    ] = "coco"
    csv: Annotated[
        Path | None,
        Option(help="Write AP, AR and counts of each class and size.", metavar="FILE.csv", dir_okay=False),
    ] = None
    results: Annotated[
        Path | None,
        Option(
            help="Save the detections as COCO results JSON, and beside it, as NAME.truth.json, the ground "
            "truth; with the image and category ids of the data's own COCO file.",
            metavar="NAME.json",
            dir_okay=False,
        ),
    ] = None
    record: Annotated[
        bool,
        Option(
            "--record",
            help="Also measure each precision of this machine, and write their AP into the card's "
            "[accuracy]: RCNN_PRECISION=auto takes the fastest one that loses at most 0.002.",
        ),
    ] = False
    plots: Annotated[
        Path | None,
        Option(
            help="Draw precision against recall, and the confusion matrix, as PNG into DIR.",
            metavar="DIR",
            file_okay=False,
        ),
    ] = None


@dataclass(frozen=True)
class DiagnoseArguments:
    """The data, the model, and the output."""

    data: Data
    model: Model = None
    device: Device = None
    split: Split = None
    format: Format = None
    boxes: Boxes = None
    exif: Exif = None
    classes: Classes = None
    rename: Rename = None
    val_fraction: ValFraction = 0.1
    images: Annotated[
        int, Option(help="At most this many images, spread evenly over the data.", min=1, max=1_000_000)
    ] = 500
    metrics: Annotated[
        Path | None,
        Option(
            help="Log of the training; default: the one beside the card.",
            metavar="metrics.jsonl",
            exists=True,
            dir_okay=False,
        ),
    ] = None
    out: Annotated[
        Path | None,
        Option(
            help="Write diagnosis.md, and a PNG for each check, into DIR.", metavar="DIR", file_okay=False
        ),
    ] = None
    json: OneJson = False


@dataclass(frozen=True)
class TrainArguments:
    """The data, the network, its first weights, and the training."""

    out: Annotated[Path, Option(help="Folder of the model; the model gets its name.", metavar="DIR")]
    data: Annotated[
        Path | None,
        Argument(
            help="Folder of annotated images (COCO, VOC, YOLO, CVAT, LabelMe, VIA, CSV), or .zip.",
            exists=True,
            metavar="DATA",
        ),
    ] = None
    data_option: Annotated[
        Path | None, Option("--data", help="The same as DATA.", exists=True, metavar="DATA")
    ] = None
    resume: Annotated[
        bool,
        Option(
            "--resume", help="Fail if there is no run to continue. A run in DIR is continued without it too."
        ),
    ] = False
    format: Format = None
    boxes: Boxes = None
    exif: Exif = None
    classes: Classes = None
    rename: Rename = None
    val_fraction: ValFraction = 0.1
    train_split: Annotated[str, Option(help="Split to train on; none: every image.")] = "train"
    val_split: Annotated[
        str, Option(help="Split to select weights and thresholds by; none: the training images.")
    ] = "val"
    architecture: Annotated[
        str | None,
        Option(help="Architecture, as in a model card; default: that of the --from model, else small."),
    ] = None
    start: Annotated[
        str,
        Option(
            "--from",
            help="First weights: scratch, imagenet, or any model: its name or card.",
            metavar="START",
        ),
    ] = "scratch"
    epochs: Annotated[
        int, Option(help="Passes over the data; the command repeated with more extends its run.", min=1)
    ] = 40
    batch_size: Annotated[int, Option(help="Images a step.", min=1, max=256)] = 8
    schedule: Annotated[
        Literal["joint", "alternating"],
        Option(help="All parts at once, or the four steps of the paper with --epochs each."),
    ] = "joint"
    optimizer: Annotated[Literal["adamw", "sgd"], Option(help="Optimizer.")] = "adamw"
    learning_rate: Annotated[
        float, Option(help="Peak learning rate; 0.01 is usual for sgd.", min=1e-8, max=1)
    ] = 1e-3
    rate: Annotated[
        Literal["cosine", "steps"], Option(help="Learning rate schedule: half a cosine, or two steps of 0.1.")
    ] = "cosine"
    weight_decay: Annotated[float, Option(help="Weight decay of all but biases and norms.", min=0, max=1)] = (
        1e-4
    )
    clip_norm: Annotated[float, Option(help="Maximum gradient norm.", min=1e-3)] = 5.0
    min_size: Annotated[int, Option(help="Input size (short side) in pixels.", min=64, max=8192)] = 320
    max_size: Annotated[
        int | None, Option(help="Maximum long side in pixels; default: 16:9 of the short side.", max=8192)
    ] = None
    flip: Annotated[bool, Option("--flip", help="Flip vertically: for images without an upright.")] = False
    turn: Annotated[bool, Option("--turn", help="Turn by 90°; with --flip, all eight symmetries.")] = False
    scale: Annotated[float, Option(help="Scale images by up to this factor, down and up.", min=1, max=2)] = (
        1.0
    )
    whole: Annotated[float, Option(help="Last share of the run, without zoom and mosaic.", min=0, max=1)] = (
        0.0
    )
    zoom: Annotated[float, Option(help="Zoom by up to this factor, in and out.", min=1, max=4)] = 1.4
    colour: Annotated[
        float, Option(help="Jitter of brightness, contrast and saturation.", min=0, max=0.9)
    ] = 0.2
    mosaic: Annotated[float, Option(help="Share of mosaics of four images.", min=0, max=1)] = 0.0
    validate_every: Annotated[int, Option(help="Epochs between validations.", min=1)] = 1
    patience: Annotated[int, Option(help="Validations without improvement before early stopping.", min=1)] = (
        10
    )
    bfloat16: Annotated[bool, Option("--bfloat16", help="Mixed precision in bfloat16: faster.")] = False
    float16: Annotated[
        bool,
        Option("--float16", help="Mixed precision in float16 with loss scaling, for GPUs without bfloat16."),
    ] = False
    free_norms: Annotated[
        bool, Option("--free-norms", help="With --from, train the batch norms too; needs large batches.")
    ] = False
    seed: Annotated[int, Option(help="Random seed.", min=0)] = 1
    device: Annotated[str, Option(help="auto, cpu, cuda or cuda:N.")] = "auto"
    threads: Annotated[int, Option(help="CPU threads; 0: one a core.", min=0)] = 0
    int8: Annotated[
        bool,
        Option("--int8", help="Quantize the model too, calibrated on the training images: extra quantize."),
    ] = False
    log: Annotated[
        list[str] | None,
        Option(
            help="Log each step as metrics.csv or for TensorBoard too; repeat it for both.",
            metavar="csv|tensorboard",
        ),
    ] = None


@dataclass(frozen=True)
class QuantizeArguments:
    """The model, the calibration images, and the limit of the loss."""

    model: Annotated[str, Option(help="Name of a model, or path of a .toml card.", metavar="NAME|CARD")]
    images: Annotated[
        Path,
        Option(help="Folder of calibration images, like those the model will get.", exists=True),
    ]
    count: Annotated[
        int, Option(help="Maximum calibration images; 100 to 300 are enough.", min=1, max=10_000)
    ] = 200
    data: Annotated[
        Path | None,
        Option(
            help="Annotated images (COCO, VOC, YOLO) to measure AP on; default: agreement with fp32.",
            exists=True,
            metavar="DATASET",
        ),
    ] = None
    split: Annotated[str | None, Option(help="Only this part of DATASET: val, test, …")] = None
    boxes: Boxes = None
    exif: Exif = None
    classes: Classes = None
    rename: Rename = None
    max_drop: Annotated[
        float | None,
        Option(
            help="Maximum loss of int8, else nothing is written; default: 0.005 of AP, 0.05 of agreement.",
            min=0,
            max=1,
        ),
    ] = None
    out: Annotated[
        Path | None,
        Option(help="Write into DIR; default: beside the weights.", metavar="DIR", file_okay=False),
    ] = None

"""What a person may type: one frozen value a command. Every start reads this file, so it imports little."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

Model = Annotated[
    str | None, Option(help="Name of a model of the zoo, or path of a .toml card.", metavar="NAME|CARD")
]
Device = Annotated[str | None, Option(help="auto, cpu, cuda or cuda:N.")]
Json = Annotated[bool, Option("--json", help="JSON instead of a table.")]


@dataclass(frozen=True)
class ServeArguments:
    """Each overrides the setting of its name."""

    host: Annotated[str | None, Option(help="Address to listen at; 0.0.0.0 for every one.")] = None
    port: Annotated[int | None, Option(help="TCP port to listen at.")] = None
    model: Model = None
    device: Device = None


@dataclass(frozen=True)
class EvaluateArguments:
    """The data, who is evaluated, and what comes out; the first four of the rest override settings."""

    data: Annotated[
        Path,
        Argument(
            help="Folder of annotated images (COCO, VOC or YOLO), COCO .json or YOLO .yaml.",
            exists=True,
            metavar="DATA",
        ),
    ]
    model: Model = None
    device: Device = None
    engine: Annotated[str | None, Option(help="auto, torch or openvino.")] = None
    precision: Annotated[str | None, Option(help="auto, fp32, fp16, bf16 or int8.")] = None
    url: Annotated[
        str | None, Option(help="Evaluate the model that the service at URL runs, through the service.")
    ] = None
    api_key: Annotated[str | None, Option(help="API key of that service.")] = None
    split: Annotated[
        str | None, Option(help="Only this part of the data: val, test, …; all of it without this")
    ] = None
    format: Annotated[
        Literal["coco", "voc", "yolo"] | None,
        Option(help="Format of the annotations; found out without this"),
    ] = None
    json: Annotated[bool, Option("--json", help="Everything as one JSON object instead of tables.")] = False
    tile: Annotated[
        str | None,
        Option(help="Cut large images into tiles of N of their pixels a side, or auto.", metavar="auto|N"),
    ] = None
    results: Annotated[
        Path | None,
        Option(
            help="Save the detections as COCO results JSON, and beside it, as NAME.truth.json, the ground "
            "truth whose ids they use.",
            metavar="NAME.json",
            dir_okay=False,
        ),
    ] = None
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
    """The data, who is diagnosed, and what comes out."""

    data: Annotated[
        Path,
        Argument(
            help="Folder of annotated images (COCO, VOC or YOLO), COCO .json or YOLO .yaml.",
            exists=True,
            metavar="DATA",
        ),
    ]
    model: Model = None
    device: Device = None
    split: Annotated[
        str | None, Option(help="Only this part of the data: val, test, …; all of it without this")
    ] = None
    format: Annotated[
        Literal["coco", "voc", "yolo"] | None,
        Option(help="Format of the annotations; found out without this"),
    ] = None
    images: Annotated[
        int, Option(help="At most this many images, spread evenly over the data.", min=1, max=1_000_000)
    ] = 500
    metrics: Annotated[
        Path | None,
        Option(
            help="Log of the training; the one beside the card without this",
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
    json: Annotated[bool, Option("--json", help="Everything as one JSON object instead of tables.")] = False


@dataclass(frozen=True)
class TrainArguments:
    """The images to learn from, the network and where it starts, and how long it learns."""

    out: Annotated[Path, Option(help="Folder for the model; its name becomes the model's.", metavar="DIR")]
    data: Annotated[
        Path | None, Argument(help="Folder in COCO, Pascal VOC or YOLO form.", exists=True, metavar="DATA")
    ] = None
    data_option: Annotated[
        Path | None, Option("--data", help="The same as DATA.", exists=True, metavar="DATA")
    ] = None
    resume: Annotated[
        bool,
        Option("--resume", help="Only go on: an error where nothing was begun. Without it, as it comes."),
    ] = False
    format: Annotated[
        Literal["coco", "voc", "yolo"] | None, Option(help="Form of the data; found out if not given.")
    ] = None
    train_split: Annotated[str, Option(help="Split to learn from; none: every image.")] = "train"
    val_split: Annotated[str, Option(help="Split that picks the best weights; none: do without.")] = "val"
    architecture: Annotated[str, Option(help="The network, as in a model card.")] = "small"
    start: Annotated[
        str, Option("--from", help="scratch, imagenet, or a model of that architecture.", metavar="START")
    ] = "scratch"
    epochs: Annotated[int, Option(help="Passes over the images.", min=1)] = 40
    batch_size: Annotated[int, Option(help="Images in a step.", min=1, max=256)] = 8
    schedule: Annotated[
        Literal["joint", "alternating"],
        Option(help="Everything at once, or the four steps of the paper, --epochs each."),
    ] = "joint"
    optimizer: Annotated[Literal["adamw", "sgd"], Option(help="What moves the weights.")] = "adamw"
    learning_rate: Annotated[
        float, Option(help="Highest rate; for sgd about 0.01 is usual.", min=1e-8, max=1)
    ] = 1e-3
    rate: Annotated[
        Literal["cosine", "steps"], Option(help="How the rate falls: as half a cosine, or twice tenfold.")
    ] = "cosine"
    weight_decay: Annotated[float, Option(help="Of everything but biases and norms.", min=0, max=1)] = 1e-4
    clip_norm: Annotated[float, Option(help="Longest gradient that is followed.", min=1e-3)] = 5.0
    min_size: Annotated[int, Option(help="Short side in pixels.", min=64, max=1333)] = 320
    max_size: Annotated[
        int | None, Option(help="Longest side in pixels; 16:9 of the short one if not given.", max=8192)
    ] = None
    flip: Annotated[bool, Option("--flip", help="Also upside down: for pictures without an up.")] = False
    turn: Annotated[bool, Option("--turn", help="Also on the side: with --flip, all eight symmetries.")] = (
        False
    )
    scale: Annotated[
        float, Option(help="Whole images up to this many times smaller or larger.", min=1, max=2)
    ] = 1.0
    whole: Annotated[float, Option(help="Last share of the run without zoom and mosaic.", min=0, max=1)] = 0.0
    zoom: Annotated[float, Option(help="Objects up to this many times larger or smaller.", min=1, max=4)] = (
        1.4
    )
    colour: Annotated[float, Option(help="Change of brightness, contrast, saturation.", min=0, max=0.9)] = 0.2
    mosaic: Annotated[float, Option(help="Share of pictures made of four.", min=0, max=1)] = 0.0
    validate_every: Annotated[int, Option(help="Epochs between validations.", min=1)] = 1
    patience: Annotated[int, Option(help="Validations without a gain before it ends early.", min=1)] = 10
    bfloat16: Annotated[bool, Option("--bfloat16", help="Half the arithmetic's width: faster.")] = False
    float16: Annotated[
        bool, Option("--float16", help="The same with loss scaling, for GPUs without bfloat16.")
    ] = False
    free_norms: Annotated[
        bool, Option("--free-norms", help="With --from, let the batch norms learn too; wants large batches.")
    ] = False
    seed: Annotated[int, Option(help="Decides everything random.", min=0)] = 1
    device: Annotated[str, Option(help="auto, cpu, cuda or cuda:N.")] = "auto"
    threads: Annotated[int, Option(help="Threads on the CPU; 0: one a core.", min=0)] = 0


@dataclass(frozen=True)
class QuantizeArguments:
    """The model, the images it is calibrated on, and what int8 may cost."""

    model: Annotated[str, Option(help="Name of a model, or path of a .toml card.", metavar="NAME|CARD")]
    images: Annotated[
        Path,
        Option(help="Folder of images such as the model will see; it is calibrated on them.", exists=True),
    ]
    count: Annotated[int, Option(help="Most images to calibrate on; 100 to 300 do.", min=1, max=10_000)] = 200
    data: Annotated[
        Path | None,
        Option(
            help="Annotated images (COCO, VOC, YOLO) to measure AP on; without, how far answers agree.",
            exists=True,
            metavar="DATASET",
        ),
    ] = None
    split: Annotated[str | None, Option(help="Only this part of DATASET: val, test, …")] = None
    max_drop: Annotated[
        float | None,
        Option(
            help="Most that int8 may lose, or nothing is written: 0.005 of AP, 0.05 of agreement without.",
            min=0,
            max=1,
        ),
    ] = None
    out: Annotated[
        Path | None,
        Option(help="Write it into DIR; beside the weights without.", metavar="DIR", file_okay=False),
    ] = None


@dataclass(frozen=True)
class ModelsArguments:
    """How the zoo is shown."""

    json: Json = False


@dataclass(frozen=True)
class SettingsArguments:
    """How the settings are shown."""

    markdown: Annotated[bool, Option("--markdown", help="The table as Markdown, as in docs/settings.md.")] = (
        False
    )


@dataclass(frozen=True)
class BenchLineageArguments:
    """The network, the images, and how much of R-CNN's work is done."""

    architecture: Annotated[str, Option(help="The network, as in a model card.")] = "small"
    images: Annotated[
        Path | None,
        Option(
            help="Folder of images; drawn scenes without this.", metavar="DIR", exists=True, file_okay=False
        ),
    ] = None
    count: Annotated[int, Option(help="At most this many images.", min=1)] = 4
    proposals: Annotated[int, Option(help="Most proposals of Selective Search an image.", min=1)] = 2000
    crops: Annotated[
        int, Option(help="Proposals an image that R-CNN is timed on; its time is scaled up to all.", min=1)
    ] = 64
    device: Annotated[str, Option(help="auto, cpu, cuda or cuda:N.")] = "auto"
    json: Json = False

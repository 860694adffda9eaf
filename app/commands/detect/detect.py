"""`rcnn detect`: images, videos, folders and cameras in; tables, files for annotation tools, drawings out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Unpack

from rich.console import Console

from app.commands import USAGE, CommandFailed
from app.commands.detect.arguments import DetectArguments
from app.commands.detect.inputs import Item, Sources, open_sources
from app.commands.detect.output_files import FILE_AN_IMAGE, Writer, open_writer, write_classes
from app.commands.detect.report import Report, open_report
from app.commands.detect.targets import Targets, make_folder
from app.commands.shared.console import read_settings
from app.commands.shared.service_client import open_service
from app.commands.shared.tile_option import read_tile
from app.settings.settings import Settings
from models.images.decoder import ImageError, Limits, decode
from models.images.drawing import encode
from models.tiling.tiles import TooManyTiles
from rcnn_client import ClientError, Options, Refused, Result, in_order

INTERRUPTED = 130
# Statuses about one image alone; whatever else a service refuses an image with, it says of the next one too.
ABOUT_ONE_IMAGE = (400, 413, 415, 429, 500, 503, 504)

Outcome = tuple[Item, Result | Exception]


class Detects(Protocol):
    """Whoever detects: a service, through its client, or a model in this process."""

    def detect(self, image: bytes, **options: Unpack[Options]) -> Result:
        """Detections of one image file."""

    def labels(self) -> Mapping[int, str]:
        """Id to name of the classes."""


@dataclass(frozen=True)
class Work:
    """What is done with each image, so many at a time; `stop` ends what is on its way."""

    who: Detects
    options: Options
    drawings: Targets | None
    limits: Limits
    at_a_time: int
    stop: Callable[[], object]


def run(arguments: DetectArguments) -> int:
    """Detect in every image; the exit code."""
    format = _format(arguments)
    settings = read_settings(model=arguments.model)
    limits = Limits(settings.max_pixels)
    sources = open_sources(arguments, limits)
    drawings = (
        Targets(make_folder("--save", arguments.save), ".png", sources.files) if arguments.save else None
    )
    with ExitStack() as stack:
        who, at_a_time, stop = stack.enter_context(_open(arguments, settings))
        writer = _open_writer(format, who, arguments.out, sources)
        file = None if format in FILE_AN_IMAGE else arguments.out
        report = stack.enter_context(open_report(sources.total, writer, file))
        # Who waits for an image to come must not keep the answers of those before it.
        at_a_time = 1 if sources.live else at_a_time
        work = Work(who, _options(arguments), drawings, limits, at_a_time, stop)
        return _detect_all(sources, work, report)


def _format(arguments: DetectArguments) -> str:
    """The format asked for; raises CommandFailed where it and --out or --json do not fit."""
    if arguments.json and arguments.format not in (None, "ndjson"):
        raise CommandFailed(f"--json is --format ndjson, not {arguments.format}; leave one out", USAGE)
    format = "ndjson" if arguments.json else arguments.format or "table"
    if format in FILE_AN_IMAGE and arguments.out is None:
        raise CommandFailed(f"--format {format} is a file an image; name a folder for them with --out", USAGE)
    if format == "table" and arguments.out is not None:
        raise CommandFailed("--out is for the other formats; tables go to the terminal", USAGE)
    return format


@contextmanager
def _open(
    arguments: DetectArguments, settings: Settings
) -> Iterator[tuple[Detects, int, Callable[[], object]]]:
    """Who detects, how many images at a time, and what stops it."""
    if arguments.url is not None:
        with open_service(arguments.url, arguments.api_key) as client:
            try:
                client.check_reachable()
            except ClientError as error:
                raise CommandFailed(error) from error
            yield client, arguments.in_flight, client.close
        return
    # Loading imports torch, which takes seconds: somebody who looks on is told.
    stderr = Console(stderr=True)
    with stderr.status("Loading the model") if stderr.is_terminal else nullcontext():
        from app.commands.detect.local_client import load_client

        model = load_client(settings)
    yield model, 1, lambda: None


def _open_writer(format: str, who: Detects, out: Path | None, sources: Sources) -> Writer | None:
    """What writes the format, None for tables; raises CommandFailed."""
    if format == "table":
        return None
    try:
        labels = {} if format in ("json", "ndjson") else who.labels()
        if format not in FILE_AN_IMAGE or out is None:
            return open_writer(format, labels, None)
        folder = make_folder("--out", out)
        if format == "yolo":
            write_classes(folder, labels)
        taken = sources.files | {(folder / "classes.txt").resolve()}
        return open_writer(format, labels, Targets(folder, FILE_AN_IMAGE[format], taken))
    except (ClientError, OSError) as error:
        raise CommandFailed(error) from error


def _options(arguments: DetectArguments) -> Options:
    tokens = ",".join(arguments.classes or ()).split(",")
    return Options(
        score_threshold=arguments.score_threshold,
        nms_threshold=arguments.nms_threshold,
        max_detections=arguments.max_detections,
        classes=[token.strip() for token in tokens if token.strip()],
        size=arguments.size,
        tile=read_tile(arguments.tile),
        tile_overlap=_overlap(arguments),
    )


def _overlap(arguments: DetectArguments) -> float | None:
    if arguments.tile is None and arguments.tile_overlap is not None:
        raise CommandFailed("--tile-overlap is for --tile; give it too, or leave this out", USAGE)
    return arguments.tile_overlap


def _detect_all(sources: Sources, work: Work, report: Report) -> int:
    """Detect in all images and report on each; the exit code. Raises CommandFailed if none can succeed."""
    try:
        for item, outcome in _outcomes(sources, work):
            if isinstance(outcome, Exception):
                report.failure(item, outcome)
            else:
                report.result(item, outcome)
    except KeyboardInterrupt:
        report.end()
        return INTERRUPTED
    report.end()
    return 1 if report.failed else 0


def _outcomes(sources: Sources, work: Work) -> Iterator[Outcome]:
    # Named here and not on the threads, where two runs would give the same image different names.
    tasks = ((item, work.drawings.path(item) if work.drawings else None) for item in sources.items)
    if work.at_a_time == 1:
        return (_attempt(*task, work) for task in tasks)
    return in_order(lambda task: _attempt(*task, work), tasks, work.at_a_time, work.stop)


def _attempt(item: Item, drawing: Path | None, work: Work) -> Outcome:
    try:
        data = item.read()
        result = work.who.detect(data, **work.options)
        if drawing is not None:
            image = decode(data, work.limits)
            drawing.write_bytes(encode(image, result.detections, result.label_names(), "png"))
    except (ImageError, TooManyTiles, ClientError, MemoryError, OSError) as error:
        _stop_if_hopeless(error)
        return item, error
    return item, result


def _stop_if_hopeless(error: Exception) -> None:
    if isinstance(error, Refused) and (error.status in ABOUT_ONE_IMAGE or _too_many_tiles(error)):
        return
    if isinstance(error, ClientError):
        usage = isinstance(error, Refused) and error.status == 422
        raise CommandFailed(error, USAGE if usage else 1) from error


def _too_many_tiles(refused: Refused) -> bool:
    """Whether it is this image alone that is too large for tiles of the side asked for."""
    return refused.status == 422 and refused.detail.startswith("tile=")

"""`rcnn detect`: images, videos, folders and cameras in; tables, annotation files and drawings out."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

from app.commands import USAGE, CommandFailed
from app.commands.detect.arguments import DetectArguments
from app.commands.detect.inputs import Inputs, Item, open_inputs
from app.commands.detect.output_files import FILE_AN_IMAGE, Writer, open_writer, write_classes
from app.commands.detect.report import Report, open_report
from app.commands.detect.request_options import RequestOptions
from app.commands.detect.result import ImageDetector, ImageRefused, ImageResult
from app.commands.detect.targets import Targets
from app.commands.shared.checks import make_folder
from app.commands.shared.console import read_settings
from app.commands.shared.progress import loading_status
from app.commands.shared.request_options import check_options
from app.commands.shared.service_client import check_reachable, open_service
from app.schemas.options import DetectOptions
from app.settings.settings import Settings
from models.images.decoder import ImageError, Limits, decode
from models.images.drawing import encode
from models.tiling.tiles import TooManyTiles

INTERRUPTED = 130

Task = tuple[Item, Path | None]  # an image, and where its drawing goes
ItemResult = tuple[Item, ImageResult | Exception]
MapInOrder = Callable[[Callable[[Task], ItemResult], Iterable[Task]], Iterator[ItemResult]]


@dataclass(frozen=True)
class Work:
    """What is done with each image."""

    detector: ImageDetector
    options: DetectOptions
    drawings: Targets | None
    limits: Limits
    map_in_order: MapInOrder


def run(arguments: DetectArguments) -> int:
    """Detect in every image; the exit code."""
    format = _format(arguments)
    options = _options(arguments)
    settings = read_settings(model=arguments.model if arguments.url is None else None)
    limits = Limits(settings.max_pixels)
    inputs = open_inputs(arguments, limits)
    drawings = (
        Targets(make_folder("--save", arguments.save), ".png", inputs.files) if arguments.save else None
    )
    with ExitStack() as stack:
        detector, map_in_order = stack.enter_context(_open_detector(arguments, settings))
        writer = _open_writer(format, detector, arguments.out, inputs)
        file = None if format in FILE_AN_IMAGE else arguments.out
        report = stack.enter_context(open_report(inputs.total, writer, file))
        # While the next live image is awaited, the results before it are shown: one at a time.
        work = Work(detector, options, drawings, limits, map if inputs.live else map_in_order)
        return _detect_all(inputs, work, report)


def _format(arguments: DetectArguments) -> str:
    """The output format; raises CommandFailed where --format, --out and --json contradict one another."""
    if arguments.json and arguments.format not in (None, "ndjson"):
        raise CommandFailed(f"--json is --format ndjson, not {arguments.format}; leave one out", USAGE)
    format = "ndjson" if arguments.json else arguments.format or "table"
    if format in FILE_AN_IMAGE and arguments.out is None:
        raise CommandFailed(
            f"--format {format} writes a file an image; name a folder for them with --out", USAGE
        )
    if format == "table" and arguments.out is not None:
        raise CommandFailed("--out is for the other formats; tables go to the terminal", USAGE)
    return format


def _options(arguments: DetectArguments) -> DetectOptions:
    if arguments.tile is None and arguments.tile_overlap is not None:
        raise CommandFailed("--tile-overlap is for --tile; give it too, or leave this out", USAGE)
    return check_options({field.name: getattr(arguments, field.name) for field in fields(RequestOptions)})


@contextmanager
def _open_detector(
    arguments: DetectArguments, settings: Settings
) -> Iterator[tuple[ImageDetector, MapInOrder]]:
    """The model or the service, and what detects in many images: one or several at a time."""
    if arguments.url is None:
        with loading_status() as observe:
            from app.commands.detect.local_client import load_client

            detector = load_client(settings, observe)
        yield detector, map
        return
    with open_service(arguments.url, arguments.api_key) as client:
        from app.commands.detect.remote_client import RemoteClient
        from rcnn_client import in_order

        check_reachable(client)
        several = partial(in_order, in_flight=arguments.in_flight, stop=client.close)
        yield RemoteClient(client, arguments.model), map if arguments.in_flight == 1 else several


def _open_writer(format: str, detector: ImageDetector, out: Path | None, inputs: Inputs) -> Writer | None:
    """The writer of the format, None for tables; raises CommandFailed."""
    if format == "table":
        return None
    labels = {} if format in ("json", "ndjson") else detector.labels()
    if format not in FILE_AN_IMAGE or out is None:
        return open_writer(format, labels, None)
    folder = make_folder("--out", out)
    if format == "yolo":
        try:
            write_classes(folder, labels)
        except OSError as error:
            raise CommandFailed(error) from error
    taken = inputs.files | {(folder / "classes.txt").resolve()}
    return open_writer(format, labels, Targets(folder, FILE_AN_IMAGE[format], taken))


def _detect_all(inputs: Inputs, work: Work, report: Report) -> int:
    """Detect in all images and report on each; the exit code. Raises CommandFailed if none can succeed."""
    # Drawings are named here and not on the threads, where two runs would give an image different names.
    tasks = ((item, work.drawings.path(item) if work.drawings else None) for item in inputs.items)
    try:
        for item, outcome in work.map_in_order(partial(_detect, work), tasks):
            if isinstance(outcome, Exception):
                report.failure(item, outcome)
            else:
                report.result(item, outcome)
    except KeyboardInterrupt:
        report.end()
        return INTERRUPTED
    report.end()
    return 1 if report.failed else 0


def _detect(work: Work, task: Task) -> ItemResult:
    item, drawing = task
    try:
        data = item.read()
        result = work.detector.detect(data, work.options)
        if drawing is not None:
            image = decode(data, work.limits)
            drawing.write_bytes(encode(image, result.detections, result.label_names(), "png"))
    except (ImageError, TooManyTiles, ImageRefused, MemoryError, OSError) as error:
        return item, error
    return item, result

"""`rcnn detect`: images and folders in; tables, JSON lines or drawn PNGs out."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Protocol, Unpack

from rich.console import Console

from app.client import Client, ClientError, Options, Refused, Result
from app.commands import USAGE, CommandFailed
from app.commands.arguments import DetectArguments
from app.commands.configured import read_settings
from app.commands.report import Report, open_report
from app.settings import Settings
from models.drawing import encode
from models.images import ImageError, Limits, decode

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
# Statuses about one image alone; whatever else a service refuses an image with, it says of the next one too.
ABOUT_ONE_IMAGE = (400, 413, 415, 429, 500, 503, 504)


class Source(Protocol):
    """Whoever detects: a service, through its client, or a model in this process."""

    def detect(self, image: bytes, **options: Unpack[Options]) -> Result:
        """Detections of one image file."""


@dataclass(frozen=True)
class Work:
    """What is done with each image; `targets` says where its drawing goes, and is empty without --save."""

    source: Source
    options: Options
    targets: Mapping[Path, Path]
    limits: Limits


def run(arguments: DetectArguments) -> int:
    """Detect in every image; the exit code."""
    files = find_images(arguments.images)
    if not files:
        looked = ", ".join(str(path) for path in arguments.images)
        raise CommandFailed(f"no image in {looked}; looked for {' '.join(SUFFIXES)}", USAGE)
    settings = read_settings(model=arguments.model)
    targets = plan_drawings(files, arguments.save)
    with _open_source(arguments, settings) as source, open_report(len(files), arguments.json) as report:
        work = Work(source, _options(arguments), targets, Limits(settings.max_pixels))
        return 1 if _detect_all(files, work, report) else 0


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files named, and in folders at any depth those with the suffix of an image; each once."""
    found = (sorted(_images_below(path)) if path.is_dir() else [path] for path in paths)
    return list(dict.fromkeys(chain.from_iterable(found)))


def _images_below(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def plan_drawings(files: Sequence[Path], folder: Path | None) -> dict[Path, Path]:
    """Where each image's drawing goes: NAME.png in `folder`, numbered so that nothing of this run is lost."""
    if folder is None:
        return {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandFailed(
            f"--save {folder}: {error.strerror}; name a folder that can be written"
        ) from error
    taken = {file.resolve() for file in files}
    targets = {}
    for file in files:
        names = chain([file.stem], (f"{file.stem}-{number}" for number in count(2)))
        targets[file] = next(
            path for path in (folder / f"{name}.png" for name in names) if path.resolve() not in taken
        )
        taken.add(targets[file].resolve())
    return targets


def _open_source(arguments: DetectArguments, settings: Settings) -> AbstractContextManager[Source]:
    if arguments.url is not None:
        try:
            return Client(arguments.url, api_key=arguments.api_key)
        except ValueError as error:
            raise CommandFailed(f"--url: {error}", USAGE) from error
    # Loading imports torch, which takes seconds: somebody who looks on is told.
    stderr = Console(stderr=True)
    with stderr.status("Loading the model") if stderr.is_terminal else nullcontext():
        from app.commands.local import load_client

        return nullcontext(load_client(settings))


def _options(arguments: DetectArguments) -> Options:
    tokens = ",".join(arguments.classes or ()).split(",")
    return Options(
        score_threshold=arguments.score_threshold,
        nms_threshold=arguments.nms_threshold,
        max_detections=arguments.max_detections,
        classes=[token.strip() for token in tokens if token.strip()],
        size=arguments.size,
    )


def _detect_all(files: Sequence[Path], work: Work, report: Report) -> int:
    """Detect in one image after the other; how many failed. Raises CommandFailed if none can succeed."""
    failed = 0
    for file in files:
        try:
            report.result(file, _detect(file, work))
        except (ImageError, ClientError, MemoryError, OSError) as error:
            _stop_if_hopeless(error)
            report.failure(file, error)
            failed += 1
        report.advance()
    return failed


def _detect(file: Path, work: Work) -> Result:
    data = file.read_bytes()
    result = work.source.detect(data, **work.options)
    if file in work.targets:
        names = {int(label): name for label, name in zip(result.labels, result.names, strict=True)}
        labels = [names.get(label, "") for label in range(max(names, default=0) + 1)]
        drawn = encode(decode(data, work.limits), result.detections, labels, "png")
        work.targets[file].write_bytes(drawn)
    return result


def _stop_if_hopeless(error: Exception) -> None:
    if isinstance(error, Refused) and error.status in ABOUT_ONE_IMAGE:
        return
    if isinstance(error, ClientError):
        usage = isinstance(error, Refused) and error.status == 422
        raise CommandFailed(error, USAGE if usage else 1) from error

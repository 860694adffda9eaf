"""`rcnn bench lineage`: R-CNN, Fast R-CNN and Faster R-CNN side by side on this machine."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track
from rich.table import Table

from app.commands import USAGE, CommandFailed
from app.commands.bench.arguments import BenchLineageArguments
from app.commands.shared.console import open_console, read_settings

if TYPE_CHECKING:
    from models.images.decoder import Image
    from models.lineage.timing import LineageTimes, Seconds

SCENES_SEED = 5
METHODS = {"rcnn": "R-CNN", "fast_rcnn": "Fast R-CNN", "faster_rcnn": "Faster R-CNN"}
LEGEND = """\
R-CNN and Fast R-CNN take their proposals from Selective Search, on one CPU core; Faster R-CNN's proposals are
the RPN's layers and NMS, the rest of its time is in the network's. Weights are random: arithmetic takes as
long with any.
Published: VGG-16, Pascal VOC, an Nvidia K40. 47 s is Girshick 2015, table 4, without the time of proposals
(the +). 2 s is Ren et al. 2015, table 5: 1.83 s, of which Selective Search on a CPU 1.51 s. 0.2 s is that
table's 198 ms, of which the RPN 10 ms."""


def run(arguments: BenchLineageArguments) -> int:
    """Time the three methods and print them beside the published times."""
    from models.engines import EngineUnavailable
    from models.lineage.selective_search import SelectiveSearchMissing
    from models.lineage.timing import Plan, summarise, time_lineage

    plan = Plan(arguments.architecture, arguments.proposals, arguments.crops, arguments.device)
    images = list(_images(arguments))
    try:
        times = time_lineage(images, plan)
    except SelectiveSearchMissing as error:
        raise CommandFailed(error) from error
    except EngineUnavailable as error:
        raise CommandFailed(f"--device: {error}", USAGE) from error
    except ValueError as error:
        raise CommandFailed(f"--architecture: {error}", USAGE) from error
    stderr = Console(stderr=True)
    shown = track(
        times, "timing", len(images), console=stderr, transient=True, disable=not stderr.is_terminal
    )
    _print(summarise(list(shown), plan.device), arguments)
    return 0


def _images(arguments: BenchLineageArguments) -> Iterator["Image"]:
    """The first images of the folder, or drawn scenes."""
    from models.images.decoder import Image, ImageError, Limits, decode
    from models.shapes.scenes import draw_scene

    if arguments.images is None:
        scenes = (draw_scene(SCENES_SEED, index) for index in range(arguments.count))
        yield from (Image(scene.pixels, "PNG") for scene in scenes)
        return
    limits = Limits(read_settings().max_pixels)
    for file in _files(arguments.images)[: arguments.count]:
        try:
            yield decode(file.read_bytes(), limits)
        except (ImageError, OSError) as error:
            raise CommandFailed(f"{file}: {error}") from error


def _files(folder: Path) -> list[Path]:
    from app.commands.detect.inputs import SUFFIXES, find_images

    files = find_images([folder])
    if not files:
        raise CommandFailed(f"no image in {folder}; looked for {' '.join(SUFFIXES)}", USAGE)
    return files


def _print(times: "LineageTimes", arguments: BenchLineageArguments) -> None:
    from models.lineage.timing import PUBLISHED

    if arguments.json:
        here, there = (asdict(each) | {"ratios": _ratios(each)} for each in (times, PUBLISHED))
        print(json.dumps(here | {"architecture": arguments.architecture, "published": there}))
        return
    console = open_console()
    console.print(_table(times, PUBLISHED, arguments.architecture))
    console.print(f"{_sample(times)}\n{LEGEND}", highlight=False, style="dim")


def _ratios(times: "LineageTimes") -> dict[str, float]:
    """How many times Faster R-CNN's time each method takes."""
    return {name: getattr(times, name).total / times.faster_rcnn.total for name in METHODS}


def _table(times: "LineageTimes", published: "LineageTimes", architecture: str) -> Table:
    title = f"Seconds per image: {architecture}, mean of {times.images} images, {times.machine}"
    table = Table(title=title, title_justify="left")
    table.add_column("method", no_wrap=True)
    for column in ("proposals", "network", "total", "ratio", "published", "ratio"):
        table.add_column(column, justify="right", no_wrap=True)
    ours, theirs = _ratios(times), _ratios(published)
    for name, title in METHODS.items():
        here, there = getattr(times, name), getattr(published, name)
        cells = (_number(here.proposals), _number(here.network), _number(here.total), f"{ours[name]:.1f}")
        table.add_row(title, *cells, _published(there), f"{theirs[name]:.1f}")
    return table


def _published(seconds: "Seconds") -> str:
    """The time as it is quoted: to one digit where it is below ten; a + where proposals are not in it."""
    return f"{seconds.total:.2g} +" if seconds.proposals is None else f"{seconds.total:.1g}"


def _number(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.0f}" if seconds >= 100 else f"{seconds:#.3g}"


def _sample(times: "LineageTimes") -> str:
    """What R-CNN's time was taken from."""
    counts = f"{times.searched:.0f} proposals of Selective Search an image, {times.proposed:.0f} of the RPN"
    if times.crops == times.searched:
        return f"{counts}."
    return f"{counts}. R-CNN's network was timed on {times.crops:.0f} of them and scaled up to all."

"""`rcnn captures export`: captures as a data set that annotation tools and `rcnn train` read."""

import shutil
from pathlib import Path

from app.captures.files import Capture, find_captures
from app.commands import CommandFailed
from app.commands.captures.arguments import CapturesExportArguments
from app.commands.captures.formats import FORMATS
from app.commands.shared.checks import make_folder
from app.commands.shared.console import read_settings


def run(arguments: CapturesExportArguments) -> int:
    """Copy the images and write their annotations; the exit code."""
    found = _of_one_model(_captures_folder(arguments), arguments.model)
    out = make_folder("--out", arguments.out)
    if any(out.iterdir()):
        raise CommandFailed(f"--out {out} is not empty; name a new folder")
    try:
        images = make_folder("--out", out / "images")
        for image, _ in found:
            shutil.copy2(image, images)
        FORMATS[arguments.to](out, [capture for _, capture in found])
    except OSError as error:
        raise CommandFailed(f"--out {out}: {error}") from error
    print(f"{len(found)} images with {sum(capture.detections for _, capture in found)} objects in {out}")
    return 0


def _captures_folder(arguments: CapturesExportArguments) -> Path:
    folder = arguments.data or read_settings().capture_dir
    if folder is None:
        raise CommandFailed(
            "no folder of captures: give --data DIR, or set RCNN_CAPTURE_DIR as the service has it", 2
        )
    return folder


def _of_one_model(folder: Path, model: str | None) -> list[tuple[Path, Capture]]:
    """The captures of that model; their detections have its labels. Raises CommandFailed."""
    found = [(image, capture) for image, capture in find_captures(folder) if model in (None, capture.model)]
    names = sorted({capture.model for _, capture in found})
    if not found:
        raise CommandFailed(f"{folder} has no captures{f' of {model}' if model else ''}")
    if len(names) > 1:
        raise CommandFailed(f"{folder} has captures of {', '.join(names)}; choose one with --model", 2)
    return found

"""The files of captures: `MODEL/ID.jpg`, and `MODEL/ID.json` with the detections as a COCO dataset."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SUFFIX = ".json"
PART = ".part"  # of a file that is being written


@dataclass(frozen=True)
class Capture:
    """One kept image: `time` in ISO 8601 (UTC), `file` its name in this folder, `reason` the rule."""

    id: str
    time: str
    model: str
    model_version: str
    reason: str
    request_id: str
    file: str
    coco: dict[str, Any]

    @property
    def detections(self) -> int:
        """How many objects were detected."""
        return len(self.coco["annotations"])

    @property
    def classes(self) -> list[str]:
        """The names of the detected classes, each once."""
        found = {annotation["category_id"] for annotation in self.coco["annotations"]}
        return sorted(category["name"] for category in self.coco["categories"] if category["id"] in found)


def write_capture(folder: Path, capture: Capture, image: bytes) -> list[Path]:
    """Write the image, then its description, each under another name first; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(capture), ensure_ascii=False).encode()
    return [
        _write(folder / capture.file, image),
        _write(folder / f"{capture.id}{SUFFIX}", text),
    ]


def _write(path: Path, data: bytes) -> Path:
    part = path.with_name(path.name + PART)
    part.write_bytes(data)
    return part.replace(path)


def read_capture(path: Path) -> Capture | None:
    """The description in a file; None where it is damaged or gone."""
    try:
        return Capture(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def find_files(folder: Path) -> Iterator[tuple[Path, Path]]:
    """The image and the description of every capture below a folder, the oldest first; reads none."""
    files: dict[str, list[Path]] = {}
    for path in folder.glob("*/*"):
        files.setdefault(path.stem, []).append(path)
    for _, paths in sorted(files.items()):
        images = [path for path in paths if path.suffix not in (SUFFIX, PART)]
        for description in (path for path in paths if path.suffix == SUFFIX):
            if image := next((path for path in images if path.parent == description.parent), None):
                yield image, description


def find_captures(folder: Path) -> Iterator[tuple[Path, Capture]]:
    """The image and the content of every capture below a folder, the oldest first, without damaged ones."""
    for image, description in find_files(folder):
        if (capture := read_capture(description)) is not None:
            yield image, capture

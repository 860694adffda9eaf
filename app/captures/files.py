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


def find_captures(folder: Path) -> Iterator[tuple[Path, Capture]]:
    """Every capture below a folder with the path of its image, the oldest first."""
    for path in sorted(folder.glob(f"*/*{SUFFIX}"), key=lambda path: path.name):
        capture = read_capture(path)
        if capture is not None and (image := path.with_name(capture.file)).is_file():
            yield image, capture

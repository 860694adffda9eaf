"""The times of a network's precisions on a machine, in a file beside the converted network."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

FORMAT = 1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Times:
    """Milliseconds of each precision; `model`: its name; `artefact`: what identifies its int8 artefact."""

    model: str
    artefact: str
    milliseconds: Mapping[str, float]


def times_file(folder: Path, machine: str) -> Path:
    """The file of a machine in the folder of a converted network."""
    return folder / f"precision-{machine}.json"


def read_times(path: Path) -> Times | None:
    """The times in a file; None where there is none, or none of this format."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            return None
        return Times(
            values["model"],
            values["artefact"],
            {str(name): float(value) for name, value in values["milliseconds"].items()},
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_times(times: Times, path: Path) -> None:
    """Write a file atomically; a cache that cannot be written is logged, and the next start times again."""
    partial = path.with_name(f"{path.name}.{uuid4().hex}.partial")
    try:
        partial.write_text(json.dumps({"format": FORMAT, **asdict(times)}), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        logger.warning("the times of the precisions could not be cached: %s", error)
    finally:
        partial.unlink(missing_ok=True)


def newest_times(cache_dir: Path, model: str, machine: str) -> Times | None:
    """The newest times of a model of that name on a machine, whatever its weights were."""
    files = sorted(
        cache_dir.glob(f"*/*/precision-{machine}.json"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    found = (times for path in files if (times := read_times(path)) is not None)
    return next((times for times in found if times.model == model), None)

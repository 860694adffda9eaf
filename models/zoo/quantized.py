"""Quantized artefacts: a model's parts in int8, in a folder beside the original weights."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from models.zoo.cards import Card
from models.zoo.download import sha256_of

FORMAT = 1  # of the folder; other formats are not read
MANIFEST = "int8.json"

Measure = Literal["AP", "agreement"]


class QuantizedError(ValueError):
    """There is no matching int8 artefact; the text says how to make one."""


@dataclass(frozen=True)
class Manifest:
    """How an artefact was made, and its accuracy compared with fp32.

    `weights` is the SHA-256 of their file; `measure` is the unit of `fp32` and `int8`: COCO AP, or agreement
    of the answers (1 for fp32). `kept` names the groups of layers that stay fp32.
    """

    format: int
    model: str
    architecture: str
    weights: str
    openvino: str
    nncf: str
    date: str
    images: int
    kept: tuple[str, ...]
    measure: Measure
    evaluated_images: int
    fp32: float
    int8: float


def folder_name(card: Card) -> str:
    """The artefact's folder, as in `shapes.int8-v1`."""
    return f"{card.name}.int8-v{FORMAT}"


def quantized_home(card: Card, cache_dir: Path) -> Path:
    """The folder for a model's artefacts: that of its weights."""
    return cache_dir if card.weights_file is None else card.weights_file.parent


def fingerprint(card: Card, weights: Path | None) -> str:
    """Identifies weights: their SHA-256, or the card's `weights` for an untrained network."""
    return card.weights if weights is None else sha256_of(weights)


def find_quantized(card: Card, weights: Path | None, cache_dir: Path) -> Path:
    """The artefact made for these weights, beside them or in the cache; raises QuantizedError."""
    candidates = _candidates(card, cache_dir)
    folder = next((path for path in candidates if (path / MANIFEST).is_file()), None)
    if folder is None:
        raise QuantizedError(
            f"{card.name} has no int8 artefact for RCNN_PRECISION=int8 (looked for {candidates[0]}); "
            f"make one with `{_command(card)}`, or set RCNN_PRECISION to auto"
        )
    if read_manifest(folder).weights != fingerprint(card, weights):
        raise QuantizedError(
            f"{folder} was made for other weights than {weights or card.weights}; "
            f"make it again with `{_command(card)}`"
        )
    return folder


def has_artefact(card: Card, cache_dir: Path) -> bool:
    """Whether there is an artefact of that name, made for these weights or others."""
    return any((path / MANIFEST).is_file() for path in _candidates(card, cache_dir))


def _candidates(card: Card, cache_dir: Path) -> list[Path]:
    return [parent / folder_name(card) for parent in (quantized_home(card, cache_dir), cache_dir)]


def read_manifest(folder: Path) -> Manifest:
    """The manifest in an artefact's folder; raises QuantizedError."""
    try:
        values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        known = {field.name for field in fields(Manifest)}
        if set(values) != known or values["format"] != FORMAT:
            raise ValueError(f"it is not of format {FORMAT}")
        return Manifest(**{**values, "kept": tuple(values["kept"])})
    except (OSError, ValueError, TypeError) as error:
        raise QuantizedError(
            f"{folder / MANIFEST} cannot be read: {error}; quantize the model again"
        ) from error


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write the manifest into an artefact's folder."""
    text = json.dumps(asdict(manifest), indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _command(card: Card) -> str:
    return f"rcnn quantize --model {model_argument(card)} --images DIR"


def model_argument(card: Card) -> str:
    """The model as an option of a command: its name, or the path of a card outside the package."""
    bundled = card.path is None or card.path.parent == Path(__file__).parent
    return card.name if bundled else str(card.path)

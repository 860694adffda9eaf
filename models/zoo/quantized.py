"""Quantized artefacts: a model's parts in int8, in a folder beside the weights they were made of."""

import json
import os
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from models.zoo.cards import Card
from models.zoo.download import PARTIAL
from models.zoo.weights import sha256_of

FORMAT = 1  # of the folder; one of another format is not read
MANIFEST = "int8.json"

Measure = Literal["AP", "agreement"]


class QuantizedError(ValueError):
    """There is no int8 artefact that fits; the text says how to make one."""


@dataclass(frozen=True)
class Manifest:
    """What an artefact was made of, with what, and how it compares with fp32.

    `weights` is the SHA-256 of their file; `measure` says what `fp32` and `int8` are: COCO's AP, or the
    agreement of the answers (1 for fp32). `kept` names the groups of layers that stay fp32.
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

    @property
    def drop(self) -> float:
        """What int8 loses in the measure; negative where it gains."""
        return self.fp32 - self.int8


def folder_name(card: Card) -> str:
    """The artefact's folder, as in `shapes.int8-v1`."""
    return f"{card.name}.int8-v{FORMAT}"


def home_of_quantized(card: Card, cache_dir: Path) -> Path:
    """The folder that a model's artefact is written into: beside its weights, as they lie."""
    return cache_dir if card.weights_file is None else card.weights_file.parent


def fingerprint(card: Card, weights: Path | None) -> str:
    """What tells these weights from others: their SHA-256, or for untrained ones what the card says."""
    return card.weights if weights is None else sha256_of(weights)


def find_quantized(card: Card, weights: Path | None, cache_dir: Path) -> Path:
    """The artefact made for these weights, beside them or in the cache; raises QuantizedError."""
    places = [home / folder_name(card) for home in (home_of_quantized(card, cache_dir), cache_dir)]
    folder = next((place for place in places if (place / MANIFEST).is_file()), None)
    if folder is None:
        raise QuantizedError(
            f"{card.name} has no int8 artefact for RCNN_PRECISION=int8 (looked for {places[0]}); "
            f"make one with `{_command(card)}`, or set RCNN_PRECISION to auto"
        )
    if read_manifest(folder).weights != fingerprint(card, weights):
        raise QuantizedError(
            f"{folder} was made for other weights than {weights or card.weights}; "
            f"make it again with `{_command(card)}`"
        )
    return folder


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
    # A card of the zoo goes by its name; any other by its path, which always works.
    ours = card.path is None or card.path.parent == Path(__file__).parent
    return f"rcnn quantize --model {card.name if ours else card.path} --images DIR"


def record_on_card(card: Card, manifest: Manifest) -> bool:
    """Write the [int8] table of the card's file, in place of an older one; False: it cannot be written."""
    if card.path is None or not os.access(card.path, os.W_OK):
        return False
    text = re.sub(r"(?ms)^\[int8\].*?(?=^\[|\Z)", "", card.path.read_text(encoding="utf-8")).rstrip()
    rows = [
        "[int8]",
        f'artefact = "{folder_name(card)}"',
        f"images = {manifest.images}",
        f'measure = "{manifest.measure}"',
        f"evaluated_images = {manifest.evaluated_images}",
        f"fp32 = {manifest.fp32}",
        f"int8 = {manifest.int8}",
        f"kept_fp32 = {json.dumps(manifest.kept)}",
    ]
    partial = card.path.with_suffix(PARTIAL)
    partial.write_text("\n".join([text, "", *rows]) + "\n", encoding="utf-8")
    partial.replace(card.path)
    return True

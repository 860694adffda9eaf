"""What a model's card and its int8 artefact prove of its precisions."""

from pathlib import Path

from models.precision.proof import Proof
from models.zoo.accuracy import Accuracy
from models.zoo.cards import AUTO, Card
from models.zoo.quantized import (
    Manifest,
    QuantizedError,
    find_quantized,
    has_artefact,
    model_argument,
    read_manifest,
)


def find_proof(
    card: Card, weights: Path | None, cache_dir: Path, precision: str = AUTO
) -> tuple[Proof, Path | None]:
    """The proof, and the artefact that `precision` may take; raises QuantizedError where int8 was named."""
    if precision not in (AUTO, "int8"):
        return Proof(), None
    if precision == "int8":
        return Proof(), find_quantized(card, weights, cache_dir)
    accuracy = card.recorded_accuracy
    name = model_argument(card) if card.random_seed is None else ""
    if not has_artefact(card, cache_dir):
        return Proof(name, accuracy), None
    try:
        folder = find_quantized(card, weights, cache_dir)
        return Proof(name, accuracy or _of_manifest(read_manifest(folder))), folder
    except QuantizedError as error:
        return Proof(name, accuracy, {"int8": str(error)}), None


def _of_manifest(manifest: Manifest) -> Accuracy | None:
    """The AP that was measured when the artefact was made: not every card can be written."""
    if manifest.measure != "AP":
        return None
    return Accuracy(fp32=manifest.fp32, int8=manifest.int8, images=manifest.evaluated_images)

"""Model cards and weights of a test's own."""

import json
from pathlib import Path

from torch import nn

from models.zoo.weights import save_weights
from tests.support.data.networks import LABELS

CARD = {"name": "mine", "architecture": "small", "weights": "file:mine.safetensors", "labels": LABELS}


def write_card(folder: Path, **values: object) -> Path:
    """Write a card with these values beside those of CARD; one that is None is left out."""
    card = CARD | values
    path = folder / f"{card['name']}.toml"
    path.write_text("".join(f"{key} = {json.dumps(v)}\n" for key, v in card.items() if v is not None))
    return path


def write_model(folder: Path, network: nn.Module, **values: object) -> Path:
    """Save the weights of a network with their card; the card's path."""
    digest = save_weights(network, folder / "mine.safetensors", half=False)
    return write_card(folder, **({"sha256": digest} | values))

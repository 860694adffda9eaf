"""The version of a model: a short hash of everything that its answers depend on."""

import hashlib
import json

from torch import nn

from models.zoo.cards import Card
from models.zoo.sections import SECTIONS

DIGITS = 12
IRRELEVANT_KEYS = {"training", "accuracy", "int8"}  # keys of a card about how it was made or measured
LATER_KEYS = set(
    SECTIONS
)  # they count only where they differ from the default: older cards keep their version


def version_of(network: nn.Module, card: Card) -> str:
    """12 hex digits of the SHA-256 over the card and every weight; the network is on the CPU."""
    digest = hashlib.sha256(card.model_dump_json(exclude=IRRELEVANT_KEYS | LATER_KEYS).encode())
    later = card.model_dump(include=LATER_KEYS, exclude_defaults=True)
    if any(later.values()):
        digest.update(json.dumps(later, sort_keys=True).encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:DIGITS]

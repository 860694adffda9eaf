"""The version of a model: a short hash of everything that its answers depend on."""

import hashlib

from torch import nn

from models.zoo.cards import Card

DIGITS = 12
IRRELEVANT_KEYS = {"training", "int8"}  # keys of a card about how it was made or measured


def version_of(network: nn.Module, card: Card) -> str:
    """12 hex digits of the SHA-256 over the card and every weight; the network is on the CPU."""
    digest = hashlib.sha256(card.model_dump_json(exclude=IRRELEVANT_KEYS).encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:DIGITS]

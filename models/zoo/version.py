"""The version of a model: a short hash of what its answers depend on."""

import hashlib

from torch import nn

from models.zoo.cards import Card

DIGITS = 12
NOT_ANSWERING = {"training", "int8"}  # keys of a card that tell how it was made or measured


def version_of(network: nn.Module, card: Card) -> str:
    """12 hex digits of the SHA-256 over the card and every weight; the network is still on the CPU."""
    told = hashlib.sha256(card.model_dump_json(exclude=NOT_ANSWERING).encode())
    for name, tensor in network.state_dict().items():
        told.update(name.encode())
        told.update(tensor.detach().cpu().contiguous().numpy().data)
    return told.hexdigest()[:DIGITS]

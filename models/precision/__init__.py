"""The precision that `auto` takes: proven accurate by the card, proven faster on this machine. No torch."""

"""Logs of training runs, for the checks that read them."""

import json
from collections.abc import Callable
from pathlib import Path

PARTS = ("loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg")


def write_log(path: Path, change: Callable[[int], dict[str, float]], steps: int = 100) -> Path:
    """A log of a run whose losses settle at 0.1, with what `change` gives for a step in their place."""
    entries: list[dict[str, float]] = []
    for step in range(1, steps + 1):
        settled = dict.fromkeys(PARTS, 0.1 + 1.0 / step**2)
        entries.append({"step": step, "lr": 1e-3, "norm": 1.0, **settled, **change(step)})
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path

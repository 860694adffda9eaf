"""Decides which images are kept."""

import random

from app.serving.request import Outcome
from app.settings.captures import CaptureRules


def reason_to_keep(rules: CaptureRules, outcome: Outcome) -> str | None:
    """The rule by which an image is kept, as in the setting; None if it is not."""
    found = outcome.detections
    if rules.none and not len(found):
        return "none"
    if rules.scores is not None:
        low, high = rules.scores
        if ((found.scores >= low) & (found.scores <= high)).any():
            return f"score={low:g}-{high:g}"
    if rules.classes:
        names = {outcome.model.labels.get(label) for label in found.labels.tolist()}
        if kept := sorted(rules.classes & names):
            return f"class={kept[0]}"
    if random.random() < rules.share:  # noqa: S311  # a sample, no secret
        return f"share={rules.share:g}"
    return None

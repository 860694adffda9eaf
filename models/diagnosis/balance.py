"""Check 4: balance and trend of the loss parts, from the metrics.jsonl of a run."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.diagnosis.finding import Finding, Sheet, Verdict

PARTS = {  # torchvision's names, as the log has them
    "loss_classifier": "class",
    "loss_box_reg": "box",
    "loss_objectness": "RPN objectness",
    "loss_rpn_box_reg": "RPN box",
}
LAST, FEWEST = 0.2, 10  # share of the run that is its end, and the fewest entries of it
LEAST = 1e-12  # lowest divisor
WINDOWS = 10  # the trend is measured in tenths of the run
FAULT, DOUBT = 20.0, 8.0  # times that one of class and box may outweigh the other
RPN_FAULT, RPN_DOUBT = 10.0, 2.0  # times that the RPN's parts may outweigh the head's
FALLING, RISING = 0.05, 1.25  # fall in a tenth that makes more training useful; rise over the lowest tenth
SCORE_LOSS = 0.03  # AP at the end below the best


@dataclass(frozen=True, eq=False)
class Balance:
    """Means of the loss parts at the end of the run; curves (10,) of each part and their sum, by tenth.

    scores: (step, validation score), where there are any; entries: lines of the log.
    """

    means: dict[str, float]
    curves: dict[str, tuple[float, ...]]
    scores: tuple[tuple[int, float], ...]
    entries: int

    def ratio(self, parts: Sequence[str], others: Sequence[str]) -> float:
        """The sum of some parts over that of others; 1 if the end of the run trained only some of them."""
        if not {*parts, *others} <= self.means.keys():
            return 1.0
        sums = [max(LEAST, sum(self.means[name] for name in names)) for names in (parts, others)]
        return sums[0] / sums[1]

    @property
    def totals(self) -> list[float]:
        """The sum of the parts by tenth; empty if parts were trained in turn and sums cannot be compared."""
        sums = [float(sum(values)) for values in zip(*self.curves.values(), strict=True)]
        return [] if any(math.isnan(value) for value in sums) else sums

    @property
    def class_to_box(self) -> float:
        """Class loss over box loss."""
        return self.ratio(["loss_classifier"], ["loss_box_reg"])

    @property
    def rpn_to_head(self) -> float:
        """Both parts of the RPN over both of the head."""
        return self.ratio(["loss_objectness", "loss_rpn_box_reg"], ["loss_classifier", "loss_box_reg"])


def read_balance(log: Path) -> Balance | None:
    """The balance in a log with a JSON object per step; None if too short. Raises OSError, ValueError."""
    entries = [_entry(line, number, log) for number, line in enumerate(log.read_text().splitlines(), start=1)]
    entries = [entry for entry in entries if any(name in entry for name in PARTS)]
    if len(entries) < FEWEST:
        return None
    end = entries[-max(FEWEST, round(LAST * len(entries))) :]
    tenths = [list(part) for part in np.array_split(np.array(entries, object), WINDOWS)]
    return Balance(
        means={name: _mean(end, name) for name in PARTS if any(name in entry for entry in end)},
        curves={name: tuple(_mean(tenth, name) for tenth in tenths) for name in PARTS},
        scores=tuple(
            (int(entry.get("step", k)), float(entry["score"]))
            for k, entry in enumerate(entries, start=1)
            if "score" in entry
        ),
        entries=len(entries),
    )


def _entry(line: str, number: int, log: Path) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise ValueError(
            f"{log}, line {number}: not JSON; name the metrics.jsonl of a training run"
        ) from error
    if not isinstance(entry, dict):
        raise ValueError(f"{log}, line {number}: not a JSON object; name the metrics.jsonl of a training run")
    return entry


def _mean(entries: Sequence[Mapping[str, Any]], name: str) -> float:
    values = [float(entry[name]) for entry in entries if name in entry]
    return float(np.mean(values)) if values else math.nan


def judge_balance(balance: Balance | None, log: Path) -> Finding:
    """A part that dominates the others is a fault; so is a loss that rose again."""
    if balance is None:
        reason = f"no {log.name}" if not log.is_file() else f"{log.name} holds fewer than {FEWEST} steps"
        advice = f"Training writes it beside the card (expected: {log}); name another with --metrics."
        return _finding(None, "not measured", reason, advice)
    return _judge_ratios(balance) or _judge_trend(balance) or _balanced(balance)


def _judge_ratios(balance: Balance) -> Finding | None:
    """A finding if one loss part dominates another."""
    heads, rpn = max(balance.class_to_box, 1 / balance.class_to_box), balance.rpn_to_head
    if heads > DOUBT:
        big, small = ("class", "box") if balance.class_to_box > 1 else ("box", "class")
        verdict: Verdict = "fault" if heads > FAULT else "suspicious"
        reason = f"the {big} loss is {heads:.0f} times the {small} loss at the end: {small} is barely trained"
        advice = f"Give the {small} loss a higher weight, and check the annotations behind the {big} loss."
        return _finding(balance, verdict, reason, advice)
    if rpn > RPN_DOUBT:
        verdict = "fault" if rpn > RPN_FAULT else "suspicious"
        reason = f"the RPN's losses are {rpn:.0f} times those of the head at the end: the RPN has not learned"
        return _finding(balance, verdict, reason, "See the checks of the anchors and of the recall.")
    return None


def _judge_trend(balance: Balance) -> Finding | None:
    """A finding if the run diverged, overfitted or ended too early."""
    sums = balance.totals
    if not sums:
        return None
    if not math.isfinite(sums[-1]) or sums[-1] > RISING * min(sums):
        reason = f"the loss rose again: {sums[-1]:.3f} at the end, {min(sums):.3f} at its lowest"
        return _finding(balance, "fault", reason, "Lower the learning rate, or clip the gradient further.")
    best = max((score for _, score in balance.scores), default=0.0)
    if balance.scores and best - balance.scores[-1][1] > SCORE_LOSS and sums[-1] < sums[-2] * (1 + FALLING):
        reason = (
            f"overfitting: validation fell from {best:.3f} to {balance.scores[-1][1]:.3f} while the loss did "
            f"not rise ({sums[-1]:.3f})"
        )
        return _finding(balance, "suspicious", reason, "Train for fewer epochs, augment more, or add images.")
    if sums[-1] < (1 - FALLING) * sums[-2]:
        reason = (
            f"the loss was still falling: {sums[-2]:.3f}, {sums[-1]:.3f} in the last two tenths of the run"
        )
        return _finding(balance, "suspicious", reason, "Train longer.")
    return None


def _balanced(balance: Balance) -> Finding:
    trend = "the loss has settled" if balance.totals else "its parts were trained in turn"
    reason = (
        f"class to box loss is {balance.class_to_box:.2f}, RPN to head {balance.rpn_to_head:.2f}; {trend}"
    )
    return _finding(balance, "ok", reason, "Nothing to do.")


def _finding(balance: Balance | None, verdict: Verdict, reason: str, advice: str) -> Finding:
    return Finding(
        check="balance",
        title="Loss parts: are class and box loss balanced?",
        culprit="the training losses",
        verdict=verdict,
        reason=reason,
        advice=advice,
        sheets=() if balance is None else (_sheet(balance),),
        numbers={} if balance is None else _numbers(balance),
    )


def _sheet(balance: Balance) -> Sheet:
    whole = sum(balance.means.values()) or 1.0
    rows = [
        (
            PARTS[name],
            f"{balance.curves[name][0]:.4f}",
            f"{balance.curves[name][WINDOWS // 2]:.4f}",
            f"{mean:.4f}",
            f"{mean / whole:.1%}",
        )
        for name, mean in balance.means.items()
    ]
    columns = ("loss", "first tenth", "middle", f"last {LAST:.0%}", "share")
    return Sheet(f"means over {balance.entries} steps", columns, tuple(rows))


def _numbers(balance: Balance) -> dict[str, Any]:
    return {
        "means": balance.means,
        "class_to_box": balance.class_to_box,
        "rpn_to_head": balance.rpn_to_head,
        "by_tenth": {
            name: [value if math.isfinite(value) else None for value in curve]
            for name, curve in balance.curves.items()
        },
        "scores": [list(pair) for pair in balance.scores],
        "steps": balance.entries,
    }

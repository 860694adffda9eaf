"""Check 4: losses out of balance, and runs that diverged, overfitted or ended too early, from a log."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from models.diagnosis.balance import judge_balance, read_balance
from tests.support.data.training_log import write_log


@pytest.mark.parametrize(
    ("change", "verdict", "reason"),
    [
        (lambda step: {}, "ok", "settled"),
        (lambda step: {"loss_classifier": 0.001}, "fault", "box loss is 100 times the class loss"),
        (lambda step: {"loss_box_reg": 0.01}, "suspicious", "class loss is 10 times the box loss"),
        (lambda step: {"loss_objectness": 3.0}, "fault", "the RPN has not learned"),
        (lambda step: {"loss_classifier": 0.1 + step / 300}, "fault", "rose again"),
        (lambda step: {"loss_classifier": 0.7 - step / 200}, "suspicious", "still falling"),
        (lambda step: {"score": 0.8 - step / 1000}, "suspicious", "overfitting"),
    ],
)
def test_losses_out_of_balance_are_named(
    change: Callable[[int], dict[str, float]], verdict: str, reason: str, tmp_path: Path
) -> None:
    log = write_log(tmp_path / "metrics.jsonl", change)
    finding = judge_balance(read_balance(log), log)
    assert finding.verdict == verdict, finding.reason
    assert reason in finding.reason


def test_parts_that_are_trained_in_turn_are_not_compared(tmp_path: Path) -> None:
    """The alternating schedule trains the RPN and the head in turn."""
    log = tmp_path / "metrics.jsonl"
    turns = [{"loss_objectness": 0.1, "loss_rpn_box_reg": 0.1}] * 50
    turns += [{"loss_classifier": 0.6, "loss_box_reg": 0.5}] * 50
    log.write_text("".join(json.dumps(entry) + "\n" for entry in turns))
    finding = judge_balance(read_balance(log), log)
    assert finding.verdict == "ok"
    json.dumps(finding.to_dict(), allow_nan=False)
    log.write_text(json.dumps(turns[0]))
    short = judge_balance(read_balance(log), log)
    assert short.verdict == "not measured"
    assert "fewer than 10 steps" in short.reason

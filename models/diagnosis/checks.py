"""All the checks on one set of observations."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.diagnosis.anchors import Anchors, judge_anchors, measure_anchors
from models.diagnosis.balance import Balance, judge_balance, read_balance
from models.diagnosis.coordinates import Coordinates, judge_coordinates, measure_coordinates
from models.diagnosis.finding import Finding, summarise
from models.diagnosis.localisation import Localisation, judge_localisation, measure_localisation
from models.diagnosis.nms import Sweep, judge_sweep, sweep_thresholds
from models.diagnosis.observation import Observation
from models.diagnosis.recall import Recall, judge_recall, measure_recall
from models.pipeline.proposals import ProposalConfig
from models.zoo.cards import Card


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What each check measured, and what it found; balance is None without a log."""

    recall: Recall
    sweep: Sweep
    coordinates: Coordinates
    anchors: Anchors
    balance: Balance | None
    localisation: Localisation
    findings: tuple[Finding, ...]

    @property
    def summary(self) -> str:
        """One sentence: what is at fault."""
        return summarise(self.findings)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        faults = [one.check for one in self.findings if one.verdict == "fault"]
        return {
            "summary": self.summary,
            "faults": faults,
            "checks": {one.check: one.to_dict() for one in self.findings},
        }


def diagnose(
    observations: Sequence[Observation],
    labels: Sequence[str],
    card: Card,
    config: ProposalConfig,
    log: Path,
) -> Diagnosis:
    """Every check; `labels` are the data's, `config` the network's, `log` a metrics.jsonl, or none.

    Raises OSError, ValueError for a log that is there and cannot be read.
    """
    nms, score = card.nms_threshold, card.score_threshold
    recall = measure_recall(observations, labels, config.post_nms)
    sweep = sweep_thresholds(observations, labels, nms, score)
    coordinates = measure_coordinates(observations, nms, score)
    anchors = measure_anchors(observations, config.anchors)
    balance = read_balance(log) if log.is_file() else None
    localisation = measure_localisation(observations, labels, nms, score)
    findings = (
        judge_recall(recall),
        judge_sweep(sweep),
        judge_coordinates(coordinates),
        judge_anchors(anchors),
        judge_balance(balance, log),
        judge_localisation(localisation),
    )
    return Diagnosis(recall, sweep, coordinates, anchors, balance, localisation, findings)

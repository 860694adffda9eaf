"""All the checks on the inspected images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.datasets import AnnotationReport
from models.diagnosis.anchors import Anchors, judge_anchors, measure_anchors
from models.diagnosis.annotations import judge_annotations
from models.diagnosis.balance import Balance, judge_balance, read_balance
from models.diagnosis.coordinates import Coordinates, judge_coordinates, measure_coordinates
from models.diagnosis.finding import Finding, summarise
from models.diagnosis.inspection import InspectedImage
from models.diagnosis.localisation import Localisation, judge_localisation, measure_localisation
from models.diagnosis.nms import Sweep, judge_sweep, sweep_thresholds
from models.diagnosis.recall import Recall, judge_recall, measure_recall
from models.pipeline.proposals import ProposalConfig
from models.zoo.cards import Card


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The measurements and findings of all checks; balance is None without a log."""

    recall: Recall
    sweep: Sweep
    coordinates: Coordinates
    anchors: Anchors
    balance: Balance | None
    localisation: Localisation
    findings: tuple[Finding, ...]

    @property
    def summary(self) -> str:
        """What is at fault, as text."""
        return summarise(self.findings)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        faults = [finding.check for finding in self.findings if finding.verdict == "fault"]
        return {
            "summary": self.summary,
            "faults": faults,
            "checks": {finding.check: finding.to_dict() for finding in self.findings},
        }


def diagnose(
    images: Sequence[InspectedImage],
    labels: Sequence[str],
    card: Card,
    config: ProposalConfig,
    log: Path,
    report: AnnotationReport,
) -> Diagnosis:
    """Run every check; `labels` and the `report` of faults are the data's, `config` the network's.

    `log` is a metrics.jsonl or none.

    Raises OSError, ValueError for a log that exists and cannot be read.
    """
    nms, score = card.nms_threshold, card.score_threshold
    recall = measure_recall(images, labels, config.post_nms)
    sweep = sweep_thresholds(images, labels, nms, score)
    coordinates = measure_coordinates(images, nms, score)
    anchors = measure_anchors(images, config.anchors)
    balance = read_balance(log) if log.is_file() else None
    localisation = measure_localisation(images, labels, nms, score)
    findings = (
        judge_annotations(report),
        judge_recall(recall),
        judge_sweep(sweep),
        judge_coordinates(coordinates),
        judge_anchors(anchors),
        judge_balance(balance, log),
        judge_localisation(localisation),
    )
    return Diagnosis(recall, sweep, coordinates, anchors, balance, localisation, findings)

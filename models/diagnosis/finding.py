"""The result of a check: a verdict with reason and advice, tables for people, numbers for programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["ok", "suspicious", "fault", "not measured"]

# Causes before effects: wrong data and coordinates affect every other check, unfit anchors affect the RPN.
CAUSES = ("annotations", "coordinates", "anchors", "recall", "suppression", "localisation", "balance")


@dataclass(frozen=True)
class Sheet:
    """A table: its title, columns and rows as printed; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Finding:
    """The result of one check. `culprit` names the fault in the summary; numbers are plain values."""

    check: str
    title: str
    culprit: str
    verdict: Verdict
    reason: str
    advice: str
    sheets: tuple[Sheet, ...]
    numbers: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, without the tables."""
        return {key: value for key, value in asdict(self).items() if key != "sheets"}


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """The faults, causes first, then the suspicious findings."""
    ranked = sorted(findings, key=lambda finding: CAUSES.index(finding.check))
    return [
        finding for verdict in ("fault", "suspicious") for finding in ranked if finding.verdict == verdict
    ]


def summarise(findings: Sequence[Finding]) -> str:
    """The summary of the report: the main fault, other faults and suspicions."""
    named = in_order(findings)
    faults = [finding.culprit for finding in named if finding.verdict == "fault"]
    doubts = [finding.culprit for finding in named if finding.verdict == "suspicious"]
    text = f"At fault: {faults[0]}." if faults else "No fault found."
    if len(faults) > 1:
        text += f" Also at fault, perhaps as a consequence: {', '.join(faults[1:])}."
    return f"{text} Suspicious: {', '.join(doubts)}." if doubts else text


def share(part: float, whole: float) -> float:
    """part / whole, 0 if whole is 0."""
    return float(part / whole) if whole else 0.0

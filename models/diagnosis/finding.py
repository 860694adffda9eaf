"""What a check brings: a verdict that says why and what to do, tables for people, numbers for programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["ok", "suspicious", "fault", "not measured"]

# Causes before effects: boxes that lie wrong spoil every other number, anchors that do not fit spoil the RPN.
CAUSES = ("coordinates", "anchors", "recall", "suppression", "localisation", "balance")


@dataclass(frozen=True)
class Sheet:
    """A table: what it shows, its columns, its rows as they are printed; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Finding:
    """One check. `culprit` is what is named where it is at fault; numbers are plain values."""

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
    """The faults, causes first, then what is suspicious."""
    ranked = sorted(findings, key=lambda finding: CAUSES.index(finding.check))
    return [one for verdict in ("fault", "suspicious") for one in ranked if one.verdict == verdict]


def summarise(findings: Sequence[Finding]) -> str:
    """The end of the report: the fault, or the faults with the one to begin with."""
    named = in_order(findings)
    faults = [one.culprit for one in named if one.verdict == "fault"]
    doubts = [one.culprit for one in named if one.verdict == "suspicious"]
    text = f"At fault: {faults[0]}." if faults else "No fault found."
    if len(faults) > 1:
        text += f" Also at fault, perhaps for that reason: {', '.join(faults[1:])}."
    return f"{text} Suspicious: {', '.join(doubts)}." if doubts else text


def share(part: float, whole: float) -> float:
    """part / whole, 0 where there is nothing."""
    return float(part / whole) if whole else 0.0

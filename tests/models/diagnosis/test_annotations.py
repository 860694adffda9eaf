"""Faults of the data come before every other cause."""

import pytest

from models.datasets import AnnotationReport, Fault, FaultKind
from models.diagnosis.annotations import judge_annotations
from models.diagnosis.finding import summarise


def report(*kinds: FaultKind, images: int = 40, objects: int = 100) -> AnnotationReport:
    faults = tuple(Fault(kind, f"file {number}", "box 1 2 3 4") for number, kind in enumerate(kinds))
    return AnnotationReport(images, objects, 0, 0, {"a": objects}, faults)


@pytest.mark.parametrize(
    ("kinds", "verdict", "advice"),
    [
        ((), "ok", "Nothing to do"),
        (("clipped",) * 2, "suspicious", "few"),
        (("duplicate",) * 30, "suspicious", "few"),
        (("clipped",) * 30, "fault", "x1, y1, x2, y2"),
        (("size_mismatch",) * 3, "fault", "EXIF"),
        (("degenerate",) * 90, "fault", "fractions"),
        (("clipped", *("missing_image",) * 9), "fault", "moved or renamed"),
    ],
)
def test_many_faults_of_the_data_are_the_fault(
    kinds: tuple[FaultKind, ...], verdict: str, advice: str
) -> None:
    finding = judge_annotations(report(*kinds))
    assert (finding.check, finding.verdict) == ("annotations", verdict)
    assert advice in finding.advice
    if verdict == "fault":
        assert kinds[-1] in finding.reason
        assert "file " in finding.reason
        assert summarise([finding]) == "At fault: the annotations of the data."

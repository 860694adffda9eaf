"""Check 0: do the annotations fit their images? What the reader of the data had to cut, skip or leave out.

A model can be blamed only for what it was shown right, so this comes before every other cause.
"""

from collections.abc import Mapping

from models.datasets import FAULT_KINDS, AnnotationReport, FaultKind
from models.diagnosis.finding import Finding, Sheet, Verdict, share

MANY = 0.05  # of the objects, or of the images: more than slips of annotators
ADVICE: dict[FaultKind, str] = {
    "size_mismatch": "the boxes may be drawn on pixels before their EXIF orientation, or on resized images",
    "clipped": "the boxes may be written as x1, y1, x2, y2 where x, y, width, height belong",
    "outside": "the boxes may be of images of another size, or x and y may be swapped",
    "degenerate": "the boxes may be fractions of the image, or x, y, width, height in place of corners",
    "unknown_class": "names or numbers of classes differ between the files",
    "unreadable_annotation": "the files have another form than the reader expects",
    "missing_image": "images were moved or renamed after they were annotated",
    "unreadable_image": "images are damaged, which their objects pay for",
    "narrow_image": "images are strips, of which the network sees nothing",
    "missing_annotation": "images were not annotated, or their files lie elsewhere",
}
OF_OBJECTS: frozenset[FaultKind] = frozenset({"clipped", "outside", "degenerate", "unknown_class"})
LOST: frozenset[FaultKind] = frozenset({"outside", "degenerate", "unknown_class"})  # not among the objects


def judge_annotations(report: AnnotationReport) -> Finding:
    """Many faults of one kind are a fault of the data; few are suspicious."""
    counts = report.counts
    shares = {kind: _share(kind, report) for kind in counts}
    worst = max(shares, key=lambda kind: (shares[kind], kind in ADVICE), default=None)
    if worst is None:
        reason = f"no faults in the annotations of {report.images} images"
        return _finding("ok", reason, "Nothing to do.", counts, report)
    first = next(fault for fault in report.faults if fault.kind == worst)
    reason = f"{counts[worst]} {worst} ({FAULT_KINDS[worst]}), as in {first.where}: {first.detail}"
    if sum(shares.values()) < MANY:
        return _finding("suspicious", reason, "Correct them; they are few.", counts, report)
    likely = ADVICE.get(worst, "see rcnn train for the faults of each kind")
    advice = f"Draw the boxes of a few images and correct the data, before anything else: {likely}."
    return _finding("fault", reason, advice, counts, report)


def _share(kind: FaultKind, report: AnnotationReport) -> float:
    """The share of the objects, or of the images, that have such a fault."""
    counts = report.counts
    if kind in OF_OBJECTS:
        return share(counts[kind], report.objects + sum(counts.get(one, 0) for one in LOST))
    if kind == "duplicate":
        return 0.0  # skipped, at no cost
    return min(1.0, share(counts[kind], report.images))


def _finding(
    verdict: Verdict, reason: str, advice: str, counts: Mapping[FaultKind, int], report: AnnotationReport
) -> Finding:
    rows = tuple((kind, str(count), FAULT_KINDS[kind]) for kind, count in counts.items())
    return Finding(
        check="annotations",
        title="Annotations: do they fit their images?",
        culprit="the annotations of the data",
        verdict=verdict,
        reason=reason,
        advice=advice,
        sheets=(Sheet("faults of the data", ("kind", "count", "meaning"), rows),) if rows else (),
        numbers={"images": report.images, "objects": report.objects, "faults": dict(counts)},
    )

"""The faults of a dataset, how each is handled, and counts of what is usable."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

FaultKind = Literal[
    "degenerate",
    "clipped",
    "outside",
    "unknown_class",
    "duplicate",
    "duplicate_image",
    "duplicate_id",
    "size_mismatch",
    "missing_image",
    "unreadable_image",
    "narrow_image",
    "missing_annotation",
    "unreadable_annotation",
]

# Every kind of fault, in the order of the summary: what it is and how it is handled.
FAULT_KINDS: dict[FaultKind, str] = {
    "degenerate": "box without an area, or not of numbers: skipped",
    "clipped": "box more than 1 px past the border of its image: cut there",
    "outside": "box completely outside its image: skipped",
    "unknown_class": "object of an unknown class: skipped",
    "duplicate": "object with the box and class of another: skipped",
    "duplicate_image": "image listed more than once: skipped",
    "duplicate_id": "id of several images, whose annotations may belong to any of them: all skipped",
    "size_mismatch": "annotation with another size than the image: the image's is used",
    "missing_image": "image that does not exist: skipped",
    "unreadable_image": "image that cannot be read: skipped",
    "narrow_image": "image of which a pixel or less is left when it is resized: skipped",
    "missing_annotation": "image without an annotation file: skipped",
    "unreadable_annotation": "annotation that cannot be read: skipped",
}
EXAMPLES = 3
MAX_TEXT = 300


@dataclass(frozen=True)
class Fault:
    """One fault: its kind, the file (and object in it), and details."""

    kind: FaultKind
    where: str
    detail: str

    def __post_init__(self) -> None:
        # names of files and classes may hold control characters, which a terminal would execute
        object.__setattr__(self, "where", _printable(self.where))
        object.__setattr__(self, "detail", _printable(self.detail))


@dataclass(frozen=True)
class AnnotationReport:
    """Counts of what is usable, and every fault. `objects` includes `ignored` ones (crowd, difficult).

    notes: how the annotations were understood where that is not as they say, a sentence each.
    """

    images: int
    objects: int
    empty_images: int
    ignored: int
    per_class: Mapping[str, int]
    faults: tuple[Fault, ...]
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[FaultKind, int]:
        """The number of faults of each kind that occurs, in the order of FAULT_KINDS."""
        found = Counter(fault.kind for fault in self.faults)
        return {kind: found[kind] for kind in FAULT_KINDS if found[kind]}

    def summary(self) -> str:
        """A short text: what is usable, then each kind of fault with a few examples."""
        classes = ", ".join(f"{name} {count}" for name, count in self.per_class.items())
        ignored = f", {self.ignored} of them crowd or difficult" if self.ignored else ""
        head = [
            f"{self.images} images, {self.empty_images} of them without objects",
            f"{self.objects} objects{ignored}: {classes}",
            *(f"note: {note}" for note in self.notes),
        ]
        if not self.faults:
            return "\n".join([*head, "no faults"])
        return "\n".join([*head, *(line for kind in self.counts for line in self._lines(kind))])

    def _lines(self, kind: FaultKind) -> list[str]:
        faults = [fault for fault in self.faults if fault.kind == kind]
        examples = [f"    {fault.where}: {fault.detail}" for fault in faults[:EXAMPLES]]
        more = [f"    … and {len(faults) - EXAMPLES} more"] if len(faults) > EXAMPLES else []
        return [f"  {len(faults)} {kind} ({FAULT_KINDS[kind]})", *examples, *more]

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON: all counts, and a few examples of each kind of fault."""
        return {
            "images": self.images,
            "objects": self.objects,
            "empty_images": self.empty_images,
            "ignored": self.ignored,
            "per_class": dict(self.per_class),
            "notes": list(self.notes),
            "faults": {
                kind: {"count": count, "examples": self._examples(kind)}
                for kind, count in self.counts.items()
            },
        }

    def first_reasons(self, most: int = 5) -> str:
        """The first faults, one of each kind before a second, for the text of an error."""
        kinds = {fault.kind: fault for fault in reversed(self.faults)}
        firsts = [*kinds.values(), *(fault for fault in self.faults if fault is not kinds[fault.kind])]
        shown = [f"  {fault.where}: {fault.detail}" for fault in firsts[:most]]
        counted = ", ".join(f"{count} {kind}" for kind, count in self.counts.items())
        return "\n".join([*shown, f"  in all: {counted}"]) if shown else ""

    def _examples(self, kind: FaultKind) -> list[dict[str, str]]:
        faults = [fault for fault in self.faults if fault.kind == kind]
        return [{"where": fault.where, "detail": fault.detail} for fault in faults[:EXAMPLES]]


def _printable(text: str) -> str:
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:MAX_TEXT])
    return shown if len(text) <= MAX_TEXT else f"{shown}…"

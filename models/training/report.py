"""The report of a run: what was learned, how well, and pictures to look at."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.datasets import AnnotatedImage, AnnotationReport
from models.evaluation.assessment import Assessment
from models.evaluation.plots import draw_pictures, new_figure, save_figure
from models.zoo.cards import Card

PARTS = {
    "loss_objectness": "RPN objectness",
    "loss_rpn_box_reg": "RPN box",
    "loss_classifier": "class",
    "loss_box_reg": "box",
}
SMOOTHED = 20  # steps in the moving mean of a curve
EXAMPLES = 3


def write_report(
    out: Path,
    card: Card,
    training: Mapping[str, Any],
    assessment: Assessment,
    reports: Mapping[str, AnnotationReport],
    images: Sequence[AnnotatedImage],
) -> None:
    """Write report.md with its plots and examples into `out`."""
    draw_losses(out / "metrics.jsonl", out / "curves.png")
    drawn = draw_pictures(assessment, out, card.name)
    examples = _draw_examples(out, card, assessment, images)
    numbers = assessment.numbers
    lines = [
        f"# {card.name}",
        "",
        f"`{training['command']}`",
        "",
        f"Evaluated on {training['evaluated_on']}: **AP {numbers['AP']:.3f}, AP50 {numbers['AP50']:.3f}, "
        f"AP75 {numbers['AP75']:.3f}**; score threshold {card.score_threshold} has the best F1.",
        "",
        "| class | objects | AP | AP50 | best F1 |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {c.name} | {c.objects} | {c.AP:.3f} | {c.AP50:.3f} | {c.best_f1:.3f} |"
            for c in assessment.classes
        ),
        "",
        *(f"![{path.stem}]({path.name})" for path in (out / "curves.png", *drawn, *examples)),
        "",
        "## Annotations",
        "",
    ]
    for split, report in reports.items():
        lines += [f"### {split}", "", "```", report.summary(), "```", ""]
    (out / "report.md").write_text("\n".join(lines), encoding="utf-8")


def draw_losses(log: Path, file: Path) -> None:
    """Plot the loss parts, the learning rate and the validation scores over the steps."""
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    figure = new_figure(9.0, 6.0)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for key, name in PARTS.items():
        logged = [
            (entry["step"], entry[key]) for entry in entries if key in entry
        ]  # a phase logs its own parts
        if logged:
            upper.plot([step for step, _ in logged], _smooth([loss for _, loss in logged]), label=name)
    upper.set(yscale="log", ylabel=f"loss (mean of {SMOOTHED} steps)")
    upper.legend(frameon=False)
    scored = [(entry["step"], entry["score"]) for entry in entries if "score" in entry]
    if scored:
        lower.plot(*zip(*scored, strict=True), marker="o", markersize=3, label="AP on validation")
    lower.plot(
        [e["step"] for e in entries],
        [e["lr"] / max(x["lr"] for x in entries) for e in entries],
        ":",
        label="learning rate / highest",
    )
    lower.set(ylim=(0, 1.05), xlabel="step")
    lower.legend(frameon=False)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    save_figure(figure, file)


def _smooth(values: Sequence[float]) -> list[float]:
    """Mean of the last `SMOOTHED` values at each step."""
    windows = (values[max(0, end - SMOOTHED) : end] for end in range(1, len(values) + 1))
    return [sum(window) / len(window) for window in windows]


def _draw_examples(
    out: Path, card: Card, assessment: Assessment, images: Sequence[AnnotatedImage]
) -> list[Path]:
    """Draw the detections in the first images, from the card's score threshold on; returns the paths."""
    import numpy as np

    from models.detections import Detections
    from models.images.decoder import decode
    from models.images.drawing import encode
    from models.training.batches import LIMITS

    written = []
    for number, image in enumerate(images[:EXAMPLES], start=1):
        rows = [
            r for r in assessment.results if r["image_id"] == number and r["score"] >= card.score_threshold
        ]
        boxes = np.array([r["bbox"] for r in rows], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([r["category_id"] for r in rows], np.int64)
        found = Detections(boxes, labels, np.array([r["score"] for r in rows], np.float32))
        path = out / f"example-{number}.jpg"
        path.write_bytes(encode(decode(image.path.read_bytes(), LIMITS), found, card.labels, "jpeg"))
        written.append(path)
    return written

"""A plot for each check, by matplotlib."""

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from models.diagnosis.anchors import BINS, POSITIVE, Anchors, suggested_shapes
from models.diagnosis.balance import PARTS, WINDOWS, Balance
from models.diagnosis.checks import Diagnosis
from models.diagnosis.coordinates import AS_THEY_ARE, Coordinates
from models.diagnosis.localisation import Localisation
from models.diagnosis.nms import Sweep
from models.diagnosis.recall import COUNTS, IOUS, USUAL, Recall
from models.evaluation.plots import COLOURS, INK, PALE, new_figure, save_figure, write_heading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, RED, GREEN, YELLOW = COLOURS[:4]
MOST_DOTS, MOST_BARS = 2000, 14
WIDTH, HEIGHT = 10.0, 4.6


def draw_diagnosis(diagnosis: Diagnosis, folder: Path, title: str) -> dict[str, Path]:
    """Write a PNG per check into `folder`, which must exist; returns the paths by check. Raises OSError."""
    figures = {
        "recall": draw_recall(diagnosis.recall, title),
        "suppression": draw_sweep(diagnosis.sweep, title),
        "coordinates": draw_coordinates(diagnosis.coordinates, title),
        "anchors": draw_anchors(diagnosis.anchors, title),
        "localisation": draw_localisation(diagnosis.localisation, title),
    }
    if diagnosis.balance is not None:
        figures["balance"] = draw_balance(diagnosis.balance, title)
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in figures}


def draw_recall(recall: Recall, title: str) -> "Figure":
    """Recall against the number of proposals; and of the usual number by size and class."""
    figure, left, right = _pair()
    for iou, row, colour in zip(IOUS, recall.table, (BLUE, RED), strict=True):
        left.plot(range(len(COUNTS)), row, "o-", color=colour, label=f"IoU {iou}")
    left.set_xticks(range(len(COUNTS)), [str(count) for count in COUNTS])
    left.set(ylim=(0, 1.03), xlabel="proposals per image, best first")
    left.set(ylabel="share of the objects that they match")
    left.legend(frameon=False, loc="lower right")
    write_heading(left, title, "Proposal recall")
    groups = list(recall.by_size.items()) + sorted(recall.by_class.items(), key=lambda item: item[1])
    shown = groups[:MOST_BARS][::-1]
    for offset, index, colour in ((0.2, 0, BLUE), (-0.2, 1, RED)):
        places = np.arange(len(shown)) + offset
        right.barh(places, [values[index] for _, values in shown], 0.38, color=colour)
    _rows(right, [f"{name} ({recall.objects[name]})" for name, _ in shown])
    right.set_xlim(0, 1.03)
    more = f", the worst of {len(recall.by_class)} classes" if len(groups) > len(shown) else ""
    write_heading(right, "", f"{USUAL} proposals, by size and class (objects){more}")
    return figure


def draw_sweep(sweep: Sweep, title: str) -> "Figure":
    """AP and errors against the NMS threshold."""
    figure, left, right = _pair()
    values = [setting.threshold for setting in sweep.settings]
    for name, colour in (("AP50", BLUE), ("AP", RED)):
        left.plot(
            values, [getattr(setting, name) for setting in sweep.settings], "o-", color=colour, label=name
        )
    left.set(ylim=(0, 1.03), ylabel="precision")
    write_heading(left, title, "NMS threshold against AP")
    for name, label, colour in (
        ("duplicates", "duplicates", YELLOW),
        ("lost", "objects lost to NMS", RED),
        ("crowded", "objects that overlap by more", PALE),
    ):
        line = "o--" if name == "crowded" else "o-"
        right.plot(
            values, [getattr(setting, name) for setting in sweep.settings], line, color=colour, label=label
        )
    right.set_yscale("symlog", linthresh=10)
    right.set_ylim(bottom=0)
    right.yaxis.set_major_formatter("{x:g}")
    right.set_ylabel("count")
    write_heading(right, "", "errors at the card's score threshold")
    for axes in (left, right):
        axes.axvline(sweep.own.threshold, color=INK, linewidth=1, linestyle=":", label="the card's")
        axes.axvline(sweep.best.threshold, color=GREEN, linewidth=1, linestyle="--", label="the best")
        axes.set_xlabel("NMS threshold (IoU)")
        axes.legend(framealpha=1, edgecolor="none", loc="lower center" if axes is left else "upper left")
    return figure


def draw_coordinates(coordinates: Coordinates, title: str) -> "Figure":
    """Offsets of detections from their objects; and matches after undoing each mistake."""
    figure, left, right = _pair(1, 1.05)
    dots = _some(coordinates.offsets)
    left.scatter(dots[:, 0], dots[:, 1], s=8, color=BLUE, alpha=0.4, linewidth=0)
    left.axhline(0, color=PALE, linewidth=1)
    left.axvline(0, color=PALE, linewidth=1)
    if len(dots):
        fit = coordinates.detections
        left.plot(fit.dx, fit.dy, "x", color=RED, markersize=10, markeredgewidth=2, label="median")
        left.legend(frameon=False)
    left.set(xlim=(-0.5, 0.5), ylim=(0.5, -0.5), aspect="equal")
    left.set(xlabel="object widths to the right", ylabel="object heights down")
    write_heading(left, title, "Offsets of detections from their objects")
    shares = list(coordinates.shares.items())[::-1]
    colours = [BLUE if name == AS_THEY_ARE else PALE for name, _ in shares]
    right.barh(range(len(shares)), [value for _, value in shares], 0.7, color=colours)
    names = [
        name.replace("the annotations", "annotations").replace("the detections", "detections")
        for name, _ in shares
    ]
    _rows(right, [fill(name, 38) for name in names])
    right.set(xlim=(0, 1.03), xlabel="share of the objects")
    write_heading(right, "", "objects that match a detection, if this is undone")
    return figure


def draw_anchors(anchors: Anchors, title: str) -> "Figure":
    """IoU of each object with its best anchor; and the shapes of objects and anchors."""
    figure, left, right = _pair()
    edges = np.linspace(0, 1, BINS + 1)
    counts, _ = np.histogram(anchors.ious, edges)
    colours = [RED if edge < POSITIVE else BLUE for edge in edges[:-1]]
    left.bar(edges[:-1], counts, 1 / BINS, align="edge", color=colours, edgecolor="white")
    left.axvline(POSITIVE, color=INK, linewidth=1, linestyle=":")
    left.set(xlim=(0, 1), xlabel="IoU with the best anchor", ylabel="objects")
    left.locator_params(axis="y", integer=True)
    write_heading(left, title, f"{anchors.without:.0%} of the objects have no anchor of IoU {POSITIVE}")
    dots = _some(anchors.objects)
    right.scatter(dots[:, 0], dots[:, 1], s=8, color=PALE, linewidth=0, label="objects")
    right.scatter(
        anchors.shapes[:, 0],
        anchors.shapes[:, 1],
        s=50,
        marker="s",
        facecolor="none",
        edgecolor=BLUE,
        label="anchors",
    )
    if anchors.suggestion is not None:
        shapes = suggested_shapes(anchors.suggestion)
        right.scatter(shapes[:, 0], shapes[:, 1], s=40, marker="x", color=RED, label="k-means suggests")
    right.set(xscale="log", yscale="log")
    sides = np.concatenate([anchors.shapes.ravel(), anchors.objects.ravel()])
    limits = float(sides.min()) / 1.3, float(sides.max()) * 1.3
    right.set(xlim=limits, ylim=limits, aspect="equal", xlabel="width, px", ylabel="height, px")
    _plain_logarithms(right)
    right.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    write_heading(right, "", "sizes on the canvas")
    return figure


def draw_balance(balance: Balance, title: str) -> "Figure":
    """The loss parts by tenth of the run; and validation scores or the parts at its end."""
    figure, left, right = _pair()
    tenths = np.arange(1, WINDOWS + 1) / WINDOWS
    for (name, curve), colour in zip(balance.curves.items(), COLOURS[:4], strict=True):
        left.plot(tenths, curve, "o-", color=colour, label=PARTS[name], markersize=4)
    left.set(yscale="log", xlabel="share of the run", ylabel="mean loss of each tenth")
    left.yaxis.set_major_formatter("{x:g}")
    left.legend(frameon=False, fontsize=9, loc="upper right")
    write_heading(left, title, "Loss parts")
    if balance.scores:
        right.plot(*zip(*balance.scores, strict=True), "o-", color=INK, markersize=4)
        right.set(xlabel="step", ylabel="validation score")
        write_heading(right, "", "validation")
        return figure
    means = {PARTS[name]: mean for name, mean in balance.means.items()}
    right.barh(range(len(means)), list(means.values()), 0.6, color=COLOURS[: len(means)])
    _rows(right, list(means))
    right.invert_yaxis()
    right.set_xlabel("loss")
    write_heading(right, "", "means at the end of the run")
    return figure


def draw_localisation(found: Localisation, title: str) -> "Figure":
    """AP at two IoUs; and the errors at the score threshold."""
    figure, left, right = _pair()
    numbers = {"AP50": found.AP50, "AP75": found.AP75, "AP": found.AP}
    bars = left.bar(
        list(numbers), [max(0.0, value) for value in numbers.values()], 0.6, color=[BLUE, RED, PALE]
    )
    left.bar_label(bars, [f"{value:.3f}" for value in numbers.values()], padding=2)
    left.set_ylim(0, 1.08)
    write_heading(left, title, "Precision at IoU 0.5, at 0.75, and over .50:.95")
    names = list(found.errors)[::-1]
    bars = right.barh(range(len(names)), [found.errors[name] for name in names], 0.6, color=RED)
    right.bar_label(bars, padding=3)
    _rows(right, names)
    right.margins(x=0.12)
    right.set_xlabel("count")
    write_heading(
        right, "", f"errors at score {found.threshold:g} ({found.right} of {found.objects} objects correct)"
    )
    return figure


def _pair(*ratios: float) -> "tuple[Figure, Axes, Axes]":
    figure = new_figure(WIDTH, HEIGHT)
    left, right = figure.subplots(1, 2, width_ratios=ratios or (1, 1))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e8ec", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure, left, right


def _rows(axes: "Axes", names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=8)
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _plain_logarithms(axes: "Axes") -> None:
    """Label a logarithmic axis with plain pixels, not powers of ten."""
    from matplotlib.ticker import LogLocator, NullLocator

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(base=2))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())


def _some(rows: Any) -> Any:
    """At most MOST_DOTS rows, evenly spaced."""
    return rows[:: max(1, -(-len(rows) // MOST_DOTS))]
